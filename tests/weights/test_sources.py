"""Weights from memory, open files and URLs, and from servers that break, stall and change files."""

import contextlib
import gzip
import http.server
import io
import itertools
import json
import os
import pickle
import re
import socket
import sys
import tempfile
import threading
import time
import traceback
import zipfile
from pathlib import Path

import numpy as np
import pytest

import yolotf
from support import load_helpers as loading
from support.cfgs import conv, net, section
from support.messages import refused, reported, said
from yolotf.cli import commands as cli
from yolotf.files import fetching, sources
from yolotf.weights.file import WeightsFile

fsspec = pytest.importorskip("fsspec")

CLASSIFIER = net(16) + conv(10) + section("avgpool") + section("softmax")
REASON = "(?<=cannot be read: ).*(?=: ')"
"""What a library says about a failure."""
ETAG = r'"-?\w+"'
CONTENT = loading.content(loading.PLAIN)
OTHER = loading.content(loading.PLAIN, seed=5)


@pytest.fixture
def model():
    return loading.build(loading.PLAIN)


@pytest.fixture
def expected(tmp_path, model):
    """Every variable's bytes after a load of the file."""
    path = tmp_path / "expected.weights"
    path.write_bytes(CONTENT)
    yolotf.load_darknet_weights(model, path)
    return loading.snapshot(model)


@contextlib.contextmanager
def unchanged(model):
    """Checks that what runs inside changes no variable and leaves no temporary file."""
    loading.scramble(model)
    before = loading.snapshot(model)
    with unchanged_folder():
        yield
    assert loading.same(loading.snapshot(model), before)


@pytest.fixture(autouse=True)
def folder_for_temporary_files(monkeypatch, tmp_path_factory):
    """Gives the test its own folder: in the system's, other processes come and go."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))


@contextlib.contextmanager
def unchanged_folder():
    folder = Path(tempfile.gettempdir())
    before = {path.name for path in folder.glob("yolotf-*")}
    yield
    assert {path.name for path in folder.glob("yolotf-*")} <= before


# Memory and open files.


def opened_file(path):
    return path.open("rb")


def after_something(path):
    path.write_bytes(b"something before" + path.read_bytes())
    file = path.open("rb")
    file.read(16)
    return file


def unzipped(path):
    path.write_bytes(gzip.compress(path.read_bytes()))
    return gzip.open(path)


def member(path):
    content = path.read_bytes()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.weights", content)
    return zipfile.ZipFile(path).open("a.weights")


def pipe(path):
    read, write = os.pipe()
    content = path.read_bytes()

    def feed():
        with os.fdopen(write, "wb") as end:
            end.write(content)

    threading.Thread(target=feed).start()
    return os.fdopen(read, "rb")


def written(path):
    file = path.open("w+b")
    file.write(CONTENT)
    file.seek(0)
    return file


def unbuffered(path):
    return path.open("rb", buffering=0)


IN_MEMORY = {
    "bytes": lambda path: path.read_bytes(),
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "memoryview": lambda path: memoryview(path.read_bytes()),
    "part of a memoryview": lambda path: memoryview(b"xy" + path.read_bytes() + b"z")[2:-1],
    "uint8": lambda path: np.fromfile(path, np.uint8),
    "BytesIO": lambda path: io.BytesIO(path.read_bytes()),
}
FILES = {
    function.__name__: function
    for function in (opened_file, after_something, unzipped, member, pipe, written, unbuffered)
}


@pytest.mark.parametrize("kind", [*IN_MEMORY, *FILES])
def test_bytes_and_open_files_load_as_the_file_does(kind, model, expected, tmp_path):
    path = tmp_path / "a.weights"
    path.write_bytes(CONTENT)
    loading.scramble(model)
    with unchanged_folder():
        source = (IN_MEMORY | FILES)[kind](path)
        report = yolotf.load_darknet_weights(model, source)
    assert loading.same(loading.snapshot(model), expected)
    assert "/proc" not in str(report)
    if kind in FILES:
        assert source.read() == b"", "a file is read to its end"
        source.close()
    else:
        assert report.path == f"<{type(source).__name__}>"


def test_a_named_pipe_and_a_device_are_still_no_files(model, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with unchanged(model), refused(OSError):
        yolotf.load_darknet_weights(model, tmp_path / "fifo")


def test_bytes_that_name_a_file_are_a_path(model, expected, tmp_path):
    path = tmp_path / "a.weights"
    path.write_bytes(CONTENT)
    loading.scramble(model)
    assert yolotf.load_darknet_weights(model, os.fsencode(path)).path == str(path)
    assert loading.same(loading.snapshot(model), expected)


@pytest.mark.parametrize("path_taken", ["op", "portable"], indirect=True)
def test_mismatch_is_refused_under_the_name_of_the_source(path_taken, model):
    for source, name in ((CONTENT[:-40], "<bytes>"), (io.BytesIO(CONTENT[:900]), "<BytesIO>")):
        with unchanged(model), pytest.raises(yolotf.WeightsMismatch) as caught:
            yolotf.load_darknet_weights(model, source)
        error = caught.value
        assert str(error).startswith(f"{name}: ")
        assert error.path == error.diagnosis.path == name
        assert "/proc" not in str(error.diagnosis) + str(error.facts)
        assert "yolotf-" not in str(error.diagnosis) + str(error.diagnosis.to_dict())


@pytest.mark.parametrize(
    "source",
    [
        None,
        3,
        True,
        ["a.weights"],
        np.zeros(9, np.float32),
        memoryview(CONTENT)[::2],
        io.StringIO("text"),
    ],
)
def test_value_that_is_no_source_is_a_type_error(source, model):
    with unchanged(model), refused(TypeError):
        yolotf.load_darknet_weights(model, source)


def test_a_file_of_text_is_a_type_error(model, tmp_path):
    (tmp_path / "a.weights").write_bytes(CONTENT)
    with (
        (tmp_path / "a.weights").open(encoding="latin-1") as file,
        unchanged(model),
        refused(TypeError),
    ):
        yolotf.load_darknet_weights(model, file)


def test_memory_is_mapped_only_when_sealed_against_writes(model):
    """With a lease, native code may map the memory and need not copy it."""
    assert yolotf.load_darknet_weights(model, CONTENT).mapped
    with WeightsFile.open(CONTENT) as file:
        assert Path(file.path).name == "weights"
        assert file.size_bytes == len(CONTENT)
        assert [parsed.floats for parsed in file.layouts()] == [802, 803]


@pytest.mark.parametrize("lacking", ["memfd_create", "proc", "both"])
def test_systems_without_memfd_or_proc(lacking, model, expected, monkeypatch):
    if lacking != "proc":
        monkeypatch.delattr(os, "memfd_create")
    if lacking != "memfd_create":
        monkeypatch.setattr(sources, "_linked", lambda *_: None)
    loading.scramble(model)
    with unchanged_folder():
        yolotf.load_darknet_weights(model, CONTENT)
        yolotf.load_darknet_weights(model, io.BytesIO(CONTENT))
    assert loading.same(loading.snapshot(model), expected)


def test_file_larger_than_any_weights_is_not_read_into_memory(model, monkeypatch):
    monkeypatch.setattr(fetching, "MAX_BYTES", 1000)
    with unchanged(model), refused(OSError):
        yolotf.load_darknet_weights(model, io.BytesIO(CONTENT))


# URLs. A store in memory, a hostile HTTP server, a real S3 server on loopback.


class Store:
    """An HTTP server whose answers a test can spoil."""

    def __init__(self):
        self.files = {}
        self.ranges = True
        self.cut = lambda wanted, content: content
        self.claim = len
        self.status = None
        self.conditions = False
        self.requests = []
        self.other_answer = None
        self.released = threading.Event()
        store = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self):
                self.answer(head=True)

            def do_GET(self):
                self.answer(head=False)

            def answer(self, *, head):
                wanted = self.headers.get("Range")
                store.requests.append((self.command, self.path, wanted))
                if store.other_answer is not None:
                    self.close_connection = True
                    store.other_answer(self)
                    return
                content = store.files.get(self.path.split("?")[0])
                if store.status is not None or content is None:
                    self.send_response(store.status or 404)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                etag = f'"{hash(content)}"'
                if store.conditions and self.headers.get("If-Match", etag) != etag:
                    self.send_response(412)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                part = re.fullmatch(r"bytes=(\d+)-(\d+)", wanted or "") if store.ranges else None
                if part:
                    content = content[int(part[1]) : int(part[2]) + 1]
                self.send_response(206 if part else 200)
                self.send_header("ETag", etag)
                self.send_header("Content-Length", str(store.claim(content)))
                self.end_headers()
                if not head:
                    sent = store.cut(wanted, content)
                    self.wfile.write(sent)
                    self.close_connection = sent is not content

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def url(self, path):
        return f"http://127.0.0.1:{self.server.server_port}{path}"

    def close(self):
        self.released.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def store(monkeypatch):
    pytest.importorskip("aiohttp")
    monkeypatch.setattr(fetching, "_RANGE_BYTES", 1000)
    served = Store()
    served.files["/a.weights"] = CONTENT
    yield served
    served.close()


def test_a_url_loads_as_the_file_does_in_ranges_and_with_progress(store, model, expected):
    loading.scramble(model)
    calls = []
    url = store.url("/a.weights")
    report = yolotf.load_darknet_weights(model, url, progress=lambda *args: calls.append(args))
    assert loading.same(loading.snapshot(model), expected)
    assert report.path == url
    ranges = [wanted for command, _, wanted in store.requests if command == "GET"]
    starts = sorted(int(re.search(r"\d+", wanted)[0]) for wanted in ranges if wanted)
    assert starts == list(range(0, len(CONTENT), 1000))
    *downloading, start, end = calls
    assert downloading[:2] == [("downloading", done, len(CONTENT)) for done in (0, 1000)]
    assert downloading[-1] == ("downloading", len(CONTENT), len(CONTENT))
    assert [start, end] == [("loading", done, len(CONTENT)) for done in (0, len(CONTENT))]


def test_server_without_ranges_is_read_whole(store, model, expected):
    store.ranges = False
    loading.scramble(model)
    yolotf.load_darknet_weights(model, store.url("/a.weights?token=1"))
    assert loading.same(loading.snapshot(model), expected)


def test_one_broken_connection_of_many_is_tried_again(store, model, expected):
    broken = []

    def cut(wanted, content):
        if wanted == "bytes=1000-1999" and not broken:
            broken.append(wanted)
            return content[:10]
        return content

    store.cut = cut
    loading.scramble(model)
    yolotf.load_darknet_weights(model, store.url("/a.weights"))
    assert broken
    assert loading.same(loading.snapshot(model), expected)


def broken_always(store):
    store.cut = lambda wanted, content: content[:-1]


def short_reads(store):
    store.claim = lambda content: len(content) - (len(content) == 1000)
    store.cut = lambda wanted, content: content[:999] if len(content) == 1000 else content


def gone_in_the_middle(store):
    def cut(wanted, content):
        store.files.clear()
        return content

    store.cut = cut


def failing_server(store):
    store.status = 503


def forbidden(store):
    store.status = 403


def missing(store):
    store.files.clear()


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (broken_always, OSError),
        (short_reads, OSError),
        (gone_in_the_middle, FileNotFoundError),
        (failing_server, OSError),
        (forbidden, PermissionError),
        (missing, FileNotFoundError),
    ],
)
def test_a_url_that_breaks_is_an_error_and_changes_nothing(spoil, kind, store, model):
    url = store.url("/a.weights")
    spoil(store)
    with unchanged(model), refused(kind, hide=REASON) as caught:
        yolotf.load_darknet_weights(model, url)
    assert caught.value.filename == url
    spoil(store)
    diagnosis = yolotf.diagnose(url, yolotf.parse_cfg(loading.PLAIN))
    assert diagnosis.exit_code == 2
    assert diagnosis.path == url


@pytest.mark.parametrize("moment", range(1, 4))
def test_an_object_replaced_in_the_middle_is_noticed(moment, store, model):
    url = store.url("/a.weights")

    def replaced(stage, done, total):
        if done >= 1000 * moment:
            store.files["/a.weights"] = OTHER

    with (
        unchanged(model),
        refused(yolotf.FileChangedError, code="file-changed", path=url, hide=ETAG),
    ):
        yolotf.load_darknet_weights(model, url, progress=replaced)
    assert yolotf.load_darknet_weights(model, url).path == url


def test_a_server_refuses_ranges_of_another_version(store, model):
    url = store.url("/a.weights")
    store.conditions = True

    def replaced(stage, done, total):
        store.files["/a.weights"] = OTHER if done else CONTENT

    with unchanged(model), refused(yolotf.FileChangedError, code="file-changed", path=url):
        yolotf.load_darknet_weights(model, url, progress=replaced)
    asked = [wanted for command, _, wanted in store.requests if command == "GET"]
    assert len(asked) == len(set(asked)), "no range is asked for again"


@pytest.mark.parametrize(
    "links",
    [
        *("simplecache::", "filecache::", "blockcache::", "zip://a.weights::"),
        *("zip://a.weights::simplecache::", "simplecache::zip://a.weights::"),
    ],
)
def test_a_chained_url_leads_to_the_object_of_now(links, store, model, expected):
    def put(content):
        zipped = io.BytesIO()
        with zipfile.ZipFile(zipped, "w") as archive:
            archive.writestr("a.weights", content)
        store.files = {"/a": zipped.getvalue() if "zip:" in links else content}

    url = links + store.url("/a")
    for earlier in (OTHER, OTHER + bytes(400)):
        put(earlier)
        with WeightsFile.open(url) as file:
            assert Path(file.path).read_bytes() == earlier
        put(CONTENT)
        loading.scramble(model)
        yolotf.load_darknet_weights(model, url)
        assert loading.same(loading.snapshot(model), expected)


def endless(store, url):
    """Makes the server name no length and never end; returns a list of the sizes it sent."""
    taken = []

    def pour(handler):
        handler.send_response(200)
        handler.end_headers()
        piece = bytes(1 << 16)
        with contextlib.suppress(OSError):
            while True:
                handler.wfile.write(piece)
                taken.append(len(piece))

    store.other_answer = pour
    return taken


def silent(store, url, after=0):
    """Makes the server name a length, send a part of it, and then nothing."""

    def hang(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(CONTENT)))
        handler.end_headers()
        if handler.command == "GET":
            handler.wfile.write(CONTENT[:after])
            handler.wfile.flush()
            store.released.wait(30)

    store.other_answer = hang


def dripping(store, url):
    """Makes the server send a byte now and then."""

    def drip(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(CONTENT)))
        handler.end_headers()
        if handler.command == "GET":
            with contextlib.suppress(OSError):
                for byte in CONTENT:
                    handler.wfile.write(bytes([byte]))
                    handler.wfile.flush()
                    if store.released.wait(0.05):
                        break

    store.other_answer = drip


def loads(url, model, cfg, tmp_path, **options):
    """Every entry point that reads weights, by name; each reads `url` when it is called."""
    from yolotf.diagnosis import inspect
    from yolotf.formats.convert import convert
    from yolotf.loading.build import build_model

    def reload():
        weights = tmp_path / "good.weights"
        weights.write_bytes(CONTENT)
        yolotf.Detector(cfg, weights, **options).reload(url)

    network = yolotf.parse_cfg(loading.PLAIN)
    return {
        "load_darknet_weights": lambda: yolotf.load_darknet_weights(model, url, **options),
        "build_model": lambda: build_model(network, weights=url, **options),
        "Detector": lambda: yolotf.Detector(cfg, url, **options),
        "reload": reload,
        "build_function": lambda: yolotf.build_function(cfg, url, **options),
        "convert": lambda: convert(url, cfg, tmp_path / "a.weights.h5", **options),
        "inspect": lambda: inspect(url, network, **options),
        "diagnose": lambda: failing(yolotf.diagnose(url, network, **options)),
        "diagnose a model": lambda: failing(yolotf.diagnose(url, model, **options)),
    }


def failing(diagnosis):
    assert diagnosis.exit_code == 2
    raise OSError(diagnosis.summary().replace("\n", " "))


DOORS = [
    "load_darknet_weights",
    "build_model",
    "Detector",
    "reload",
    "build_function",
    "convert",
    "inspect",
    "diagnose",
    "diagnose a model",
]


@pytest.fixture
def cfg_file(tmp_path):
    path = tmp_path / "net.cfg"
    path.write_text(loading.PLAIN)
    return path


@pytest.mark.parametrize("door", DOORS)
def test_no_more_is_read_of_an_endless_url_than_fits(door, store, model, cfg_file, tmp_path):
    url = store.url("/a.weights")
    taken = endless(store, url)
    with unchanged(model), refused(OSError):
        loads(url, model, cfg_file, tmp_path)[door]()
    # Sockets and their readers buffer some on both sides.
    assert sum(taken) < 32 << 20


def test_an_endless_url_for_which_no_network_is_known(store, model, monkeypatch):
    from yolotf.diagnosis import inspect

    url = store.url("/a.weights")
    endless(store, url)
    monkeypatch.setattr(fetching, "MAX_UNSTATED_BYTES", 5000)
    for load in (
        lambda: inspect(url),
        lambda: yolotf.load_darknet_weights(model, url, by_name=True),
    ):
        with (
            unchanged(model),
            refused(OSError),
        ):
            load()


@pytest.mark.slow
@pytest.mark.parametrize("door", DOORS)
def test_a_silent_server_is_given_up_after_the_time_limit(door, store, model, cfg_file, tmp_path):
    url = store.url("/a.weights")
    silent(store, url, after=700)
    started = time.monotonic()
    with unchanged(model), refused(OSError, hide=r"\d+(?= bytes in)") as caught:
        loads(url, model, cfg_file, tmp_path, timeout=0.5)[door]()
    if "diagnose" not in door:
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.filename == url
    assert time.monotonic() - started < 25  # it is silent for 30


@pytest.mark.slow
@pytest.mark.parametrize("command", ["check", "inspect", "convert", "detect", "classify"])
def test_commands_have_the_time_limit(command, store, cfg_file, tmp_path, capsys):
    url = store.url("/a.weights")
    silent(store, url)
    (tmp_path / "a.jpg").write_bytes(b"")
    cfg = ["--cfg", str(cfg_file), "--timeout", "0.5"]
    picture = str(tmp_path / "a.jpg")
    arguments = {
        "check": [url, *cfg, "--json"],
        "inspect": [url, "--timeout", "0.5"],
        "convert": [url, *cfg, "-o", str(tmp_path / "a.h5")],
        "detect": [picture, *cfg, "--weights", url, "--json"],
        "classify": [picture, "--weights", url, *cfg],
    }[command]
    if command == "classify":
        cfg_file.write_text(CLASSIFIER)
    assert cli.main([command, *arguments]) == 2
    printed = capsys.readouterr()
    if command == "check":
        said(json.loads(printed.out)["causes"][0]["message"])
    else:
        said(reported(printed.err))
    assert "Traceback" not in printed.err


def test_server_that_drips_is_given_up_like_a_silent_one(store, model):
    url = store.url("/a.weights")
    dripping(store, url)
    with unchanged(model), refused(TimeoutError, hide=r"\d+(?= bytes in)"):
        yolotf.load_darknet_weights(model, url, timeout=0.5)


@pytest.mark.slow
def test_slow_server_that_keeps_sending_is_waited_for(store, model, expected):
    """Each range comes within the time limit; all of them together take longer."""
    loading.scramble(model)

    def cut(wanted, content):
        time.sleep(0.3)
        return content

    store.cut = cut
    yolotf.load_darknet_weights(model, store.url("/a.weights"), timeout=0.7)
    assert loading.same(loading.snapshot(model), expected)


def test_range_that_never_ends_is_given_up(store, model):
    """The server names a length and sends more than that."""
    url = store.url("/a.weights")

    def pour(handler):
        handler.send_response(200)
        if handler.command == "HEAD":
            handler.send_header("Content-Length", str(len(CONTENT)))
            handler.send_header("Accept-Ranges", "bytes")
        handler.end_headers()
        with contextlib.suppress(OSError):
            while handler.command == "GET":
                handler.wfile.write(bytes(1 << 16))

    store.other_answer = pour
    with unchanged(model), refused(OSError):
        yolotf.load_darknet_weights(model, url)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_bad_time_limits_are_refused(timeout, store, model):
    with unchanged(model), refused(ValueError):
        yolotf.load_darknet_weights(model, store.url("/a.weights"), timeout=timeout)


def test_without_a_time_limit(store, model, expected):
    loading.scramble(model)
    yolotf.load_darknet_weights(model, store.url("/a.weights"), timeout=None)
    assert loading.same(loading.snapshot(model), expected)


def outcome_of(call):
    """The answer as text, or the error with its traceback and attributes."""
    try:
        return str(call())
    except (OSError, ValueError) as error:
        return "".join(traceback.format_exception(error)) + repr(vars(error))


def too_large(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", str(1 << 40))
    handler.end_headers()


def of_status(status):
    def answer(handler):
        handler.send_response(status)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


@pytest.mark.parametrize(
    "answer",
    [too_large, of_status(403), of_status(404), of_status(500)],
    ids=["too large", "403", "404", "500"],
)
def test_advice_about_a_url_that_is_not_read_suits_the_reason(answer, store):
    store.other_answer = answer
    diagnosis = yolotf.diagnose(store.url("/a.weights"), loading.PLAIN)
    (cause,) = diagnosis.causes
    said(f"{cause['message']} -> {cause['fix']}")


SECRETS = "X-Amz-Signature=0a1b2c&X-Amz-Credential=AKIA%2Fus&sig=5e"


@pytest.mark.parametrize("spoil", [lambda store: None, broken_always, failing_server, missing])
def test_signature_of_a_url_is_shown_nowhere(spoil, store, model, capsys, tmp_path):
    cfg = tmp_path / "net.cfg"
    cfg.write_text(loading.PLAIN)
    url = store.url(f"/a.weights?{SECRETS}")
    name = store.url("/a.weights")
    spoil(store)
    calls = (
        lambda: yolotf.load_darknet_weights(model, url),
        lambda: repr(yolotf.Detector(cfg, url)),
        lambda: yolotf.diagnose(url, cfg).to_dict(),
        lambda: yolotf.diagnose(url, yolotf.network("yolov4-tiny", size=64)).summary(),
        lambda: cli.main(["check", url, "--cfg", str(cfg), "--json"]),
        lambda: cli.main(["check", url, "--cfg", str(cfg)]),
        lambda: cli.main(["inspect", url]),
    )
    outcomes = [outcome_of(call) for call in calls]
    shown = "\n".join([*outcomes, *capsys.readouterr()])
    assert name in shown.replace("\n", "") or name in shown
    for secret in ("0a1b2c", "AKIA", "5e\n", "sig=5e"):
        assert secret not in shown


def everything_in(value, seen):
    """The texts of a value, its attributes and items, and of an error's causes and traceback."""
    if id(value) in seen or len(seen) > 20_000:
        return
    seen[id(value)] = value  # kept, so that its id is not used again
    yield repr(value)
    yield str(value)
    if isinstance(value, BaseException):
        yield "".join(traceback.format_exception(value))
        yield repr(pickle.dumps(value))
        for chained in (value.__cause__, value.__context__, *getattr(value, "__notes__", ())):
            yield from everything_in(chained, seen)
    attributes = vars(value) if hasattr(value, "__dict__") else {}
    parts = list(value.values()) if isinstance(value, dict) else []
    parts += value if isinstance(value, list | tuple | set) else []
    for part in (*attributes.values(), *parts):
        yield from everything_in(part, seen)


@pytest.mark.slow
@pytest.mark.parametrize(
    "form",
    [
        "http://me:s3cret@{}/t0ken/a.weights?X-Amz-Signature=0a1b2c",
        "http://me:s3cret%40t0ken@{}/a.weights#0a1b2c",
        "http://{}/t0ken/a.weights?sv=2022&sig=0a1b2c%2Fs3cret",
    ],
)
@pytest.mark.parametrize("size", [None, -400], ids=["whole", "short"])
def test_no_secret_of_a_url_is_kept(form, size, store, model, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    Path("net.cfg").write_text(loading.PLAIN)
    url = form.format(store.url("").removeprefix("http://"))
    for path in ("/a.weights", "/t0ken/a.weights"):
        store.files[path] = CONTENT[:size]
    outputs = ["a.onnx", "b.safetensors", "c.keras", "d"]
    calls = [
        lambda: yolotf.load_darknet_weights(model, url),
        lambda: yolotf.Detector("net.cfg", url),
        lambda: yolotf.diagnose(url, "net.cfg"),
        lambda: yolotf.Detector("net.cfg", url).__reduce__(),
        lambda: cli.main(["check", url, "--cfg", "net.cfg", "--html", "out/a.html"]),
        lambda: yolotf.Detector("net.cfg", url).export("out/e"),
        *(lambda o=output: yolotf.convert(url, "net.cfg", f"out/{o}") for output in outputs),
    ]
    texts = []
    for call in calls:
        try:
            value = call()
        except (OSError, TypeError, ValueError) as error:
            value = error
        texts += everything_in(value, {})
    assert (tmp_path / "out/a.html").exists()
    assert (tmp_path / "out/e").exists() == (size is None)
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    texts += [path.read_bytes().decode("latin-1") for path in files]
    for secret in ("s3cret", "t0ken", "0a1b2c"):
        assert not [text for text in texts if secret in text]


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://host/a.weights", "https://host/a.weights"),
        ("rtsp://10.0.0.1/user=me&password=TOKEN", "rtsp://10.0.0.1/..."),
        ("rtsp://10.0.0.1/user=me_password=TOKEN.sdp", "rtsp://10.0.0.1/..."),
        ("https://host/a;session=TOKEN", "https://host/..."),
        ("https://host/b/a%3Ftoken%3DTOKEN", "https://host/.../..."),
        ("cannot read rtsp:/10.0.0.1/user=me&x=TOKEN: no", "cannot read rtsp:/10.0.0.1/... no"),
        ("https://host:8080/a.weights", "https://host:8080/a.weights"),
        ("https://host/TOKEN/b/a.weights", "https://host/.../a.weights"),
        ("https://me:TOKEN@host/a?b", "https://host/a"),
        ("https://TOKEN@host/a", "https://host/a"),
        ("https://me:TO/KEN@host/a", "https://.../a"),
        ("https://me:12/TOKEN@host/a", "https://.../a"),
        ("https://me:T@OKEN@host/a", "https://host/a"),
        ("https://me:TOKEN?@host/a", "https://..."),
        ("https://me:TOKEN#@host/b/a", "https://..."),
        ("https://host/a?TOKEN", "https://host/a"),
        ("https://host/a?x=b@TOKEN", "https://..."),
        ("https://host/a?x=b@c/TOKEN", "https://..."),
        ("https://host/a#token=TOKEN", "https://host/a"),
        ("https://host/a?b=1&c&d=2#e", "https://host/a"),
        ("https://host/pkg@1.2/a.weights", "https://.../a.weights"),
        ("https://host", "https://host"),
        ("s3://bucket/a.weights?versionId=x", "s3://bucket/a.weights"),
        ("filecache::https://TOKEN@host/a?k=v", "filecache::https://host/a"),
        ("zip://a.weights::https://me:TOKEN@host/a.zip", "zip://a.weights::https://host/a.zip"),
        ("rtsp://me:TOKEN@10.0.0.1:554/live", "rtsp://10.0.0.1:554/live"),
        ("cannot read 'https://host/a?k=v': no", "cannot read 'https://host/a': no"),
        ("/a/path?with=one", "/a/path?with=one"),
    ],
)
def test_urls_are_shown_without_their_secrets(url, name):
    assert sources.redacted(url) == name
    assert "TOKEN" not in name or "TOKEN/b" in url


def test_a_ctrl_c_waits_for_no_slow_server(store, model):
    released = threading.Event()

    def cut(wanted, content):
        if wanted == "bytes=2000-2999":
            released.wait(30)
        return content

    def interrupted(stage, done, total):
        if done > 1000:
            raise KeyboardInterrupt

    store.cut = cut
    try:
        with unchanged(model), pytest.raises(KeyboardInterrupt):
            yolotf.load_darknet_weights(model, store.url("/a.weights"), progress=interrupted)
        assert not released.is_set()
    finally:
        released.set()


@pytest.mark.usefixtures("in_time")
@pytest.mark.parametrize("name", ["/dev/zero", "fifo"])
def test_url_of_a_device_or_fifo_is_refused_at_once(name, model, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with unchanged(model), refused(OSError):
        yolotf.load_darknet_weights(model, f"file://{tmp_path / name}")


def test_unreachable_server_is_an_error(model):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/a.weights"
        with unchanged(model), pytest.raises(ConnectionRefusedError) as caught:
            yolotf.load_darknet_weights(model, url)
    assert caught.value.filename == url


def test_a_page_in_place_of_weights_is_named(store, model):
    store.files["/a.weights"] = b"<!DOCTYPE html><title>Sign in</title>" * 40
    url = store.url("/a.weights")
    with unchanged(model), pytest.raises(yolotf.WeightsMismatch) as caught:
        yolotf.load_darknet_weights(model, url)
    assert caught.value.diagnosis.causes[0]["detected"] == "html"
    assert caught.value.diagnosis.path == url


def test_without_fsspec_the_extra_is_named(model, monkeypatch):
    for name in [
        name_loaded for name_loaded in sys.modules if name_loaded.split(".")[0] == "fsspec"
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fsspec", None)
    for url in ("s3://bucket/a.weights", Path("https://host/a.weights")):
        with (
            unchanged(model),
            refused(ValueError) as caught,
        ):
            yolotf.load_darknet_weights(model, url)
        assert isinstance(caught.value, ImportError)
        assert caught.value.url.count("://") == 1


def test_unknown_protocols_are_refused(model):
    with unchanged(model), refused(yolotf.YolotfError, hide=r"(?<=weights: ).*"):
        yolotf.load_darknet_weights(model, "nonsense://host/a.weights")


@pytest.fixture
def in_memory():
    files = fsspec.filesystem("memory")
    files.pipe("/models/tiny.weights", CONTENT)
    files.pipe("/models/tiny.conv.1", CONTENT[: 20 + 4 * 496])
    yield "memory://models/"
    files.rm("/models", recursive=True)


def test_backbone_is_recognised_by_the_end_of_its_url(in_memory, model):
    """A file named *.conv.N may end before the network does."""
    report = yolotf.load_darknet_weights(model, f"{in_memory}tiny.conv.1")
    assert report.loaded == ("conv_0",)
    assert report.path == f"{in_memory}tiny.conv.1"


def test_every_entry_point_takes_a_url(in_memory, tmp_path, capsys):
    """Covers functions, reload, detection, conversion, diagnosis, inspection and commands."""
    from yolotf.diagnosis import inspect
    from yolotf.formats.convert import convert
    from yolotf.inference import Detector, build_function

    cfg = tmp_path / "net.cfg"
    cfg.write_text(loading.PLAIN)
    url = f"{in_memory}tiny.weights"
    detector = Detector(cfg, url)
    picture = np.zeros((16, 16, 3), np.uint8)
    detector(picture)
    detector.reload(CONTENT)
    detector.reload(io.BytesIO(CONTENT))
    with refused(yolotf.WeightsMismatch, path=f"{in_memory}tiny.conv.1"):
        detector.reload(f"{in_memory}tiny.conv.1")
    detector(picture)
    build_function(cfg, CONTENT)(picture[None])
    stages = []
    done = convert(
        url, cfg, tmp_path / "a.weights.h5", progress=lambda stage, *_: stages.append(stage)
    )
    assert done.loaded.path == url
    assert list(dict.fromkeys(stages)) == ["downloading", "building", "loading", "writing"]
    assert yolotf.diagnose(url, cfg).ok
    assert yolotf.diagnose(CONTENT[:100], cfg).path == "<bytes>"
    assert inspect(url).path == url

    assert cli.main(["inspect", url]) == 0
    assert url in capsys.readouterr().out.replace("\n", "")
    page = tmp_path / "page.html"
    assert cli.main(["check", url, "--cfg", str(cfg), "--html", str(page)]) == 0
    assert "tiny.weights" in page.read_text()
    assert cli.main(["check", f"{in_memory}none", "--cfg", str(cfg), "--json"]) == 2
    printed = capsys.readouterr()
    assert '"missing"' in printed.out
    assert cli.main(["convert", url, "--cfg", str(cfg), "-o", str(tmp_path / "b.h5")]) == 0
    assert capsys.readouterr().out.startswith(f"{url} -> ")


# S3.


@pytest.fixture(scope="module")
def s3():
    """A real S3 server in this process, and a client for it."""
    moto = pytest.importorskip("moto.server")
    boto3 = pytest.importorskip("boto3")
    pytest.importorskip("s3fs")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="models")
        yield client
    server.stop()


_WARNINGS_OF_LIBRARIES = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore:.*:pytest.PytestWarning"
)


@_WARNINGS_OF_LIBRARIES
class TestS3:
    @pytest.fixture(autouse=True)
    def small_ranges_of_new_clients(self, s3, monkeypatch):
        monkeypatch.setattr(fetching, "_RANGE_BYTES", 1000)
        s3.put_object(Bucket="models", Key="v1/tiny.weights", Body=CONTENT)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        yield
        fsspec.get_filesystem_class("s3").clear_instance_cache()

    @pytest.mark.slow
    def test_an_object_loads_as_the_file_does(self, model, expected):
        loading.scramble(model)
        report = yolotf.load_darknet_weights(model, "s3://models/v1/tiny.weights")
        assert report.path == "s3://models/.../tiny.weights"
        assert loading.same(loading.snapshot(model), expected)

    @pytest.mark.slow
    @pytest.mark.parametrize("moment", [1, 3])
    def test_an_object_replaced_in_the_middle_is_noticed(self, moment, s3, model):
        calls = itertools.count(1)

        def replaced(stage, done, total):
            if next(calls) == moment:
                s3.put_object(Bucket="models", Key="v1/tiny.weights", Body=OTHER)

        with unchanged(model), refused(yolotf.FileChangedError, hide=ETAG):
            yolotf.load_darknet_weights(model, "s3://models/v1/tiny.weights", progress=replaced)

    @pytest.mark.slow
    def test_an_object_deleted_or_cut_in_the_middle_is_an_error(self, s3, model):
        for change in (
            lambda: s3.delete_object(Bucket="models", Key="v1/tiny.weights"),
            lambda: s3.put_object(Bucket="models", Key="v1/tiny.weights", Body=CONTENT[:1500]),
        ):
            s3.put_object(Bucket="models", Key="v1/tiny.weights", Body=CONTENT)

            def changed(stage, done, total, change=change):
                if done:
                    change()

            with unchanged(model), pytest.raises((OSError, yolotf.YolotfError)) as caught:
                yolotf.load_darknet_weights(model, "s3://models/v1/tiny.weights", progress=changed)
            assert "s3://models/.../tiny.weights" in str(caught.value)

    def test_missing_object_or_bucket_is_an_error(self, model):
        for url in ("s3://models/none.weights", "s3://no-such-bucket/a.weights"):
            with unchanged(model), refused(OSError) as caught:
                yolotf.load_darknet_weights(model, url)
            assert caught.value.filename == url

    def test_credentials_set_after_an_error_are_used(self, model, monkeypatch, tmp_path):
        url = "s3://models/v1/tiny.weights"
        with monkeypatch.context() as patch:
            for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
                patch.delenv(name)
            for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
                patch.setenv(name, str(tmp_path / "none"))
            with unchanged(model), refused(OSError, hide=REASON):
                yolotf.load_darknet_weights(model, url)
        assert yolotf.load_darknet_weights(model, url).path == "s3://models/.../tiny.weights"

    def test_listings_from_before_are_not_used(self, s3, model):
        s3.put_object(Bucket="models", Key="v1/tiny.weights", Body=OTHER)
        system = fsspec.get_filesystem_class("s3")
        listed = system().ls("models/v1", detail=True)
        s3.put_object(Bucket="models", Key="v1/tiny.weights", Body=CONTENT)
        assert system().info("models/v1/tiny.weights") == listed[0]
        yolotf.load_darknet_weights(model, "s3://models/v1/tiny.weights")

    def test_connections_that_break_are_an_error(self, model, monkeypatch):
        """A proxy in front of the server passes headers on and hangs up inside bodies."""
        host, port = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://").split(":")
        with breaking_proxy(host, int(port)) as address:
            import s3fs

            monkeypatch.setenv("AWS_ENDPOINT_URL", address)
            monkeypatch.setattr(s3fs.S3FileSystem, "retries", 2)
            with unchanged(model), refused(OSError, hide=REASON):
                yolotf.load_darknet_weights(model, "s3://models/v1/tiny.weights")


@contextlib.contextmanager
def breaking_proxy(host, port):
    """A proxy that passes on 700 bytes of every answer to a GET of an object, then hangs up."""

    def serve(client):
        with client, socket.create_connection((host, port)) as upstream:
            request = client.recv(65536)
            upstream.sendall(request)
            sent, most = 0, 700 if request.startswith(b"GET /models/v1") else 1 << 20
            upstream.settimeout(1)
            with contextlib.suppress(OSError):
                while sent < most and (content := upstream.recv(4096)):
                    client.sendall(content[: most - sent])
                    sent += len(content)
                    if request.startswith(b"HEAD"):
                        break

    def accept():
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=serve, args=(client,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield "http://{}:{}".format(*listener.getsockname())
        listener.shutdown(socket.SHUT_RDWR)
