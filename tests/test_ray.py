"""`yolotf.ray` on a real Ray cluster of this machine."""

import base64
import concurrent.futures
import contextlib
import errno
import functools
import http.server
import io
import json
import os
import socket
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import yolotf
from support import helpers
from support.cfgs import conv, net, normalized, yolo
from support.messages import refused, said

ray = pytest.importorskip("ray", reason="needs the ray extra")
pytest.importorskip("ray.serve", reason="needs the ray extra")
pytestmark = [
    pytest.mark.ray,
    # Ray's own, in its threads and sockets.
    pytest.mark.filterwarnings("ignore"),
]

CFG = net(32) + normalized(8, 3, stride=2) + conv(18) + yolo(1, "4,4, 8,8, 16,16")
THRESHOLD = 0.3
LIMITS = {
    "max_image_bytes": 1 << 20,
    "max_images": 9,
    "max_pixels": 100_000,
    "body_timeout_s": 2,
    "max_uploads": 4,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A cfg, two files of different weights, one that does not match, images, one broken."""
    path = tmp_path_factory.mktemp("ray")
    (path / "small.cfg").write_text(CFG)
    (path / "small.names").write_text("thing\n")
    network = yolotf.parse_cfg(CFG)
    helpers.write_weights(path / "a.weights", network, seed=1)
    helpers.write_weights(path / "b.weights", network, seed=2)
    (path / "bad.weights").write_bytes((path / "a.weights").read_bytes()[:-400])
    rng = np.random.default_rng(3)
    for number in range(6):
        pixels = rng.integers(0, 256, (40 + number, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path / f"{number}.png")
    (path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    return path


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def cluster():
    """Ray with six processors' worth of actors, whatever this machine has."""
    environment = {"PYTHONPATH": os.pathsep.join(helpers.PYTHONPATH)}
    os.environ.update(RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0", RAY_AUTH_MODE="disabled")
    ray.init(
        num_cpus=6,
        include_dashboard=True,
        dashboard_port=free_port(),
        log_to_driver=False,
        runtime_env={"env_vars": environment},
        object_store_memory=200 << 20,
    )
    yield
    from ray import serve

    serve.shutdown()
    ray.shutdown()


def deploy(folder, user_config):
    """What `serve deploy` sends; returns when it runs."""
    args = {
        "cfg": str(folder / "small.cfg"),
        "weights": str(folder / "a.weights"),
        "names": str(folder / "small.names"),
        "score": THRESHOLD,
        "replicas": 2,
        "batch_wait_ms": 20,
        **LIMITS,
    }
    application = {"name": "yolotf", "import_path": "yolotf.ray:app", "args": args}
    if user_config:
        application["deployments"] = [{"name": "Detector", "user_config": user_config}]
    dashboard = f"http://{ray.worker.global_worker.node.address_info['webui_url']}"
    request = urllib.request.Request(
        f"{dashboard}/api/serve/applications/",
        json.dumps({"applications": [application]}).encode(),
        {"content-type": "application/json"},
        method="PUT",
    )
    urllib.request.urlopen(request, timeout=30).close()
    deadline = time.monotonic() + 120
    while ray.serve.status().applications["yolotf"].status != "RUNNING":
        assert time.monotonic() < deadline, ray.serve.status()
        time.sleep(0.2)


@pytest.fixture(scope="module")
def served(cluster, folder):
    """The application with two replicas; the address it answers at."""
    from ray import serve

    port = free_port()
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    deploy(folder, None)
    return f"http://127.0.0.1:{port}"


def expected(folder, weights, number):
    detector = yolotf.Detector(
        folder / "small.cfg",
        folder / f"{weights}.weights",
        class_names=folder / "small.names",
        score_threshold=THRESHOLD,
    )
    return detector(folder / f"{number}.png").to_dict()["detections"]


def ask(address, data=None, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(address, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers["content-type"], answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["content-type"], error.read()


def same(rows, wanted):
    assert len(rows) == len(wanted)
    for row, other in zip(rows, wanted, strict=True):
        assert row["class"] == other["class"]
        assert row["name"] == "thing"
        np.testing.assert_allclose(row["score"], other["score"], atol=1e-5)
        np.testing.assert_allclose(row["xyxy"], other["xyxy"], atol=1e-2)


def test_a_picture_is_answered_as_the_detector_does(served, folder):
    data = (folder / "0.png").read_bytes()
    status, kind, body = ask(f"{served}/detect", data, content_type="image/png")
    assert (status, kind) == (200, "application/json")
    wanted = expected(folder, "a", 0)
    assert wanted, "a test without detections proves nothing"
    same(json.loads(body)["detections"], wanted)


def test_json_in_and_many_pictures(served, folder):
    images = [
        base64.b64encode((folder / f"{number}.png").read_bytes()).decode() for number in range(3)
    ]
    content = json.dumps({"images": images}).encode()
    status, _, body = ask(f"{served}/detect", content, content_type="application/json")
    assert status == 200
    results = json.loads(body)["results"]
    for number, result in enumerate(results):
        same(result["detections"], expected(folder, "a", number))


def form(files):
    boundary = "a-boundary"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n".encode()
        + data
        + b"\r\n"
        for name, data in files
    ]
    return b"".join(
        parts
    ) + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def test_a_broken_image_does_not_fail_the_others(served, folder):
    names = ["0.png", "broken.png", "1.png"]
    body, kind = form([(name, (folder / name).read_bytes()) for name in names])
    status, _, answer = ask(f"{served}/detect", body, content_type=kind)
    assert status == 200
    first, broken, last = json.loads(answer)["results"]
    same(first["detections"], expected(folder, "a", 0))
    assert broken.keys() == {"error"}
    said(broken["error"])
    same(last["detections"], expected(folder, "a", 1))


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        pytest.param(body, kind, status, id=name)
        for name, body, kind, status in [
            ("text", b"no picture", "image/jpeg", 400),
            ("nothing", b"", "image/jpeg", 400),
            ("half an object", b"{", "application/json", 400),
            ("a list", b"[]", "application/json", 400),
            ("no base64", b'{"image": "%"}', "application/json", 400),
            ("images as a number", b'{"images": 3}', "application/json", 400),
            ("an image as a number", b'{"images": [3]}', "application/json", 400),
            ("no UTF-8", b"\xff", "application/json", 400),
            ("30 objects deep", b'{"a": ' * 30 + b"1" + b"}" * 30, "application/json", 400),
            ("90 objects deep", b'{"a": ' * 90 + b"1" + b"}" * 90, "application/json", 413),
            ("90,000 lists deep", b"[" * 90_000, "application/json", 413),
            ("many", b'{"images": [' + b"3," * 90_000 + b"3]}", "application/json", 413),
            ("half a form", b"--a\r\n", "multipart/form-data; boundary=a", 400),
            ("a form without a boundary", b"", "multipart/form-data", 400),
            (
                "a form in a codec that refuses",
                b'--a\r\nContent-Disposition: form-data; name="f"\r\n\r\nx\r\n--a--\r\n',
                "multipart/form-data; boundary=a; charset=undefined",
                400,
            ),
        ]
    ],
)
def test_an_invalid_request_is_refused(served, body, kind, status):
    answered_status, _, answer = ask(f"{served}/detect", body, content_type=kind)
    assert answered_status == status
    said(json.loads(answer)["error"], hide=r"(?<=not JSON: ).*|(?<=\]}: ).*")  # Python's


def bomb():
    """A PNG of half a kilobyte and more pixels than are taken."""
    memory = io.BytesIO()
    Image.new("1", (20_000, 1000)).save(memory, "png")
    return memory.getvalue()


def test_a_bomb_in_a_form_fails_alone_and_shows_no_address(served, folder):
    files = [("a", (folder / "0.png").read_bytes()), ("b", bomb()), ("c", b"none")]
    body, kind = form([*files, ("d", (folder / "1.png").read_bytes())])
    status, _, answer = ask(f"{served}/detect", body, content_type=kind)
    assert status == 200
    first, broken, text, last = json.loads(answer)["results"]
    same(first["detections"], expected(folder, "a", 0))
    said(broken["error"])
    assert text.keys() == {"error"}
    said(text["error"])
    same(last["detections"], expected(folder, "a", 1))
    assert b" at 0x" not in answer
    status, _, answer = ask(f"{served}/detect", bomb(), content_type="image/png")
    assert status == 413
    said(json.loads(answer)["error"])


def test_images_of_a_request_are_limited(served, folder):
    data = (folder / "0.png").read_bytes()
    body, kind = form([("a.png", data)] * 9)
    assert len(json.loads(ask(f"{served}/detect", body, content_type=kind)[2])["results"]) == 9
    for count in (10, 11, 12, 600):
        body, kind = form([("a.png", data[:40])] * count)
        status, _, answer = ask(f"{served}/detect", body, content_type=kind)
        assert status == 413
        said(json.loads(answer)["error"])
    images = json.dumps({"images": [base64.b64encode(data).decode()] * 10}).encode()
    status, _, answer = ask(f"{served}/detect", images, content_type="application/json")
    assert status == 413


def connected(served):
    host, port = served.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def received(client):
    """Everything received until the server closes the connection."""
    parts = []
    with contextlib.suppress(ConnectionError):  # it does not wait for the rest of a body
        while part := client.recv(65536):
            parts.append(part)
    return b"".join(parts)


HEAD = b"POST /detect HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: "


@pytest.mark.parametrize("kind", [b"multipart/form-data; boundary=a", b"image/png"])
def test_a_chunked_body_is_counted(served, kind):
    """It declares no length."""
    with connected(served) as client:
        client.sendall(HEAD + kind + b"\r\nTransfer-Encoding: chunked\r\n\r\n")
        start = b'--a\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n'
        piece = start + bytes(100_000)
        sent = 0
        try:
            for _ in range(300):
                client.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
                sent += len(piece)
        except OSError:
            pass  # hung up
        answer = received(client)
    assert answer.startswith(b"HTTP/1.1 413"), (sent, answer[:80])
    said(json.loads(answer.partition(b"\r\n\r\n")[2])["error"])


def test_a_slow_body_is_given_up_and_many_stop_nobody(served, folder):
    data = (folder / "0.png").read_bytes()
    start = HEAD + b"image/png\r\nContent-Length: %d\r\n\r\n" % len(data)
    clients = [connected(served) for _ in range(140)]
    try:
        for client in clients:
            client.sendall(start + data[:1])
        time.sleep(0.5)
        began = time.monotonic()
        for _ in range(2):
            assert ask(f"{served}/health")[0] == 200
        assert time.monotonic() - began < LIMITS["body_timeout_s"]
        answers = [received(client) for client in clients]
    finally:
        for client in clients:
            client.close()
    statuses = [int(answer.split()[1]) for answer in answers]
    assert set(statuses) == {408, 503}
    assert statuses.count(408) == 2 * LIMITS["max_uploads"]  # of two replicas
    slow = answers[statuses.index(408)]
    assert b"did not arrive within 2 seconds" in slow
    status, _, body = ask(f"{served}/detect", data, content_type="image/png")
    assert status == 200
    same(json.loads(body)["detections"], expected(folder, "a", 0))


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_accept_image_returns_the_drawn_image(served, folder, kind):
    data = (folder / "0.png").read_bytes()
    status, answered_kind, body = ask(
        f"{served}/detect", data, content_type="image/png", accept=f"image/{kind}"
    )
    assert (status, answered_kind) == (200, f"image/{kind}")
    with Image.open(io.BytesIO(body)) as image:
        assert image.size == (48, 40)
        assert image.format == kind.upper()


def test_json_and_picture_in_one_answer(served, folder):
    status, kind, body = ask(
        f"{served}/detect",
        (folder / "0.png").read_bytes(),
        content_type="image/png",
        accept="multipart/mixed",
    )
    assert status == 200
    boundary = kind.partition("boundary=")[2].encode()
    parts = [part.partition(b"\r\n\r\n") for part in body.split(b"--" + boundary)[1:-1]]
    assert [head.strip() for head, _, _ in parts] == [
        b"Content-Type: application/json",
        b"Content-Type: image/jpeg",
    ]
    same(json.loads(parts[0][2])["detections"], expected(folder, "a", 0))
    assert parts[1][2].startswith(b"\xff\xd8")


def test_health_and_status(served, folder):
    assert ask(f"{served}/health")[0] == 200
    status = json.loads(ask(f"{served}/status")[2])
    assert status["weights"]["path"] == str(folder / "a.weights")
    assert status["weights"]["header"]["seen"] == 64
    assert status["refused"] is None
    assert status["threads"] == 1


def all_status(served, many=24):
    """The status of each replica, from enough requests to reach all of them."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(f"{served}/status")[2], range(many)))
    return [json.loads(answer) for answer in answers]


@pytest.mark.parametrize(
    "user_config",
    [
        pytest.param(user_config, id=name)
        for name, user_config in {
            "a line break at the end": {"weights": "FILE\n"},
            "a zero byte": {"weights": "FILE\0"},
            "a line break": {"weights": "a\nb"},
            "5,000 letters": {"weights": "x" * 5000},
            "4,000 letters": {"weights": "x" * 4000},
            "no letter": {"weights": ""},
            "a number": {"weights": 3},
            "a list": {"weights": ["FILE"]},
            "a dict": {"weights": {"a": 1}},
            "a misspelt key": {"wieghts": "FILE"},
            "another key": {"weights": "FILE", "score": 1},
            "a device": {"weights": "/dev/zero"},
            "the URL of a device": {"weights": "file:///dev/zero"},
            "the URL of a FIFO": {"weights": "file://FOLDER/fifo"},
            "a folder": {"weights": "FOLDER"},
            "a cfg": {"weights": "CFG"},
            "a text": {"weights": "TEXT"},
            "no server": {"weights": "http://127.0.0.1:9/TOKEN/a.weights"},
            "no protocol": {"weights": "nonsense://TOKEN@host/a"},
        }.items()
    ],
)
def test_whatever_is_wrong_with_a_user_config_leaves_the_old_weights(user_config, folder):
    from yolotf.ray.served_file import Outcome

    detector, served_file = a_served_file(folder)
    names = {"FILE": "b.weights", "CFG": "small.cfg", "FOLDER": "", "TEXT": "text"}
    if not (folder / "fifo").exists():
        os.mkfifo(folder / "fifo")
    (folder / "text").write_text("root:x:0 it's TOKEN\n" * 9)

    def filled(value):
        if not isinstance(value, str):
            return value
        for word, name in names.items():
            value = value.replace(word, str(folder / name))
        return value

    config = {key: filled(value) for key, value in user_config.items()}
    assert served_file.change(config) is Outcome.REFUSED
    assert detector.weights.path == str(folder / "a.weights")
    # The system's numbers and words.
    said(served_file.refused["error"], hide=r"(?<=Errno )\d+|(?<=\] )Connect[^:]*|x{100,}")
    status = json.dumps(served_file.refused)
    assert len(status) < 2000
    for hidden in ("TOKEN", " at 0x", "Traceback"):
        assert hidden not in status
    assert served_file.change({"weights": str(folder / "b.weights")}) is Outcome.CHANGED
    assert detector.weights.path == str(folder / "b.weights")
    assert served_file.refused is None


@pytest.mark.parametrize("user_config", ["FILE", 3, [1], object()])
def test_user_config_other_than_a_mapping_is_refused(user_config, folder):
    _, served_file = a_served_file(folder)
    served_file.change(user_config)
    said(served_file.refused["error"])
    served_file.change(None)
    assert served_file.refused is None


def a_served_file(folder):
    """What a replica has, without Ray around it."""
    from yolotf.ray.served_file import ServedFile

    detector = yolotf.Detector(folder / "small.cfg", folder / "a.weights")
    return detector, ServedFile(detector, str(folder / "a.weights"))


def test_a_bad_user_config_takes_no_replica_down(served, folder):
    before = replica_names()
    for weights in (f"{folder / 'b.weights'}\n", "a\0b", "x" * 5000):
        deploy(folder, {"weights": weights})
        deadline = time.monotonic() + 60
        while not all(replica["refused"] for replica in all_status(served)):
            assert time.monotonic() < deadline
    assert {status["weights"]["path"] for status in all_status(served)} == {
        str(folder / "a.weights")
    }
    assert replica_names() == before
    deploy(folder, None)


def replica_names():
    actors = ray.util.list_named_actors(all_namespaces=True)
    return {actor["name"] for actor in actors if "Detector" in actor["name"]}


def test_new_weights_while_requests_are_served_and_a_bad_file_that_is_refused(served, folder):
    data = (folder / "2.png").read_bytes()
    old, new = expected(folder, "a", 2), expected(folder, "b", 2)
    assert old != new
    stop, problems, answers = threading.Event(), [], []

    def client():
        while not stop.is_set():
            status, _, body = ask(f"{served}/detect", data, content_type="image/png")
            rows = json.loads(body).get("detections")
            answers.append(rows)
            for wanted in (old, new):
                try:
                    same(rows, wanted)
                    break
                except AssertionError:
                    continue
            else:
                problems.append((status, body))

    clients = [threading.Thread(target=client) for _ in range(4)]
    for thread in clients:
        thread.start()
    try:
        deploy(folder, {"weights": str(folder / "b.weights")})
        deadline = time.monotonic() + 60
        while {replica["weights"]["path"] for replica in all_status(served)} != {
            str(folder / "b.weights")
        }:
            assert time.monotonic() < deadline
        deploy(folder, {"weights": str(folder / "bad.weights")})
        while not all(replica["refused"] for replica in all_status(served)):
            assert time.monotonic() < deadline
    finally:
        stop.set()
        for thread in clients:
            thread.join()
    assert not problems, problems[0]
    assert len(answers) > 10
    for status in all_status(served):
        assert status["weights"]["path"] == str(folder / "b.weights")
        assert status["refused"]["weights"] == str(folder / "bad.weights")
        assert "bad.weights" in status["refused"]["error"]
    same(json.loads(ask(f"{served}/detect", data)[2])["detections"], new)


def test_a_killed_replica_loses_only_what_was_in_flight(served, folder):
    data = (folder / "0.png").read_bytes()
    victim = next(
        ray.get_actor(actor["name"], namespace="serve")
        for actor in ray.util.list_named_actors(all_namespaces=True)
        if "Detector" in actor["name"] and actor["namespace"] == "serve"
    )
    ray.kill(victim)
    deadline = time.monotonic() + 90
    good = 0
    while good < 20:
        assert time.monotonic() < deadline
        status, _, _ = ask(f"{served}/detect", data, content_type="image/png")
        good = good + 1 if status == 200 else 0


@pytest.fixture
def dataset_arguments(folder, tmp_path):
    return {
        "network": str(folder / "small.cfg"),
        "weights": str(folder / "a.weights"),
        "output": tmp_path / "found",
        "class_names": str(folder / "small.names"),
        "score_threshold": THRESHOLD,
        "batch_size": 3,
        "max_pixels": LIMITS["max_pixels"],
    }


def rows_of(output):
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(output).to_pylist()
    by_name = {Path(row["path"]).name: row for row in rows}
    assert len(by_name) == len(rows), "a row for each picture"
    return by_name


def check_row(row, folder):
    wanted = expected(folder, "a", int(Path(row["path"]).name[0]))
    assert row["error"] == ""
    np.testing.assert_allclose(
        row["scores"], [detection["score"] for detection in wanted], atol=1e-5
    )
    np.testing.assert_allclose(row["boxes"], [detection["xyxy"] for detection in wanted], atol=1e-2)
    assert row["names"] == ["thing"] * len(wanted)


def test_a_dataset_of_pictures_and_where_it_goes_on(
    cluster, folder, tmp_path, dataset_arguments, monkeypatch
):
    from yolotf.ray import detect_dataset

    monkeypatch.chdir(folder)  # which no worker runs in
    (tmp_path / "bomb.png").write_bytes(bomb())
    broken = [folder / "broken.png", tmp_path / "bomb.png", tmp_path / "later.png"]
    paths = ["0.png", folder / "1.png", Path("2.png"), "3.png", "./0.png"]
    arguments = {**dataset_arguments, "network": "small.cfg", "weights": Path("a.weights")}
    assert detect_dataset([*paths, *broken], **{**arguments, "class_names": "small.names"}) == 7
    rows = rows_of(tmp_path / "found")
    assert {Path(row["path"]).is_absolute() for row in rows.values()} == {True}
    for name in ("broken.png", "bomb.png", "later.png"):
        row = rows.pop(name)
        assert row["error"]
        assert row["boxes"] == []
        assert " at 0x" not in row["error"]
    assert len(rows) == 4
    for row in rows.values():
        check_row(row, folder)

    # Again: what failed is tried again, and is no new picture.
    (tmp_path / "later.png").write_bytes((folder / "4.png").read_bytes())
    assert detect_dataset([*paths, *broken], **{**arguments, "class_names": "small.names"}) == 0
    again = rows_of(tmp_path / "found")
    assert len(again) == 7
    assert again["later.png"]["error"] == ""
    assert again["later.png"]["scores"]
    assert again["broken.png"]["error"]
    assert detect_dataset([*paths, "4.png"], **{**arguments, "class_names": "small.names"}) == 1


def test_a_dataset_of_urls(cluster, folder, dataset_arguments):
    from yolotf.ray import detect_dataset

    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        paths = [f"{address}/0.png?TOKEN", f"file://{folder / '1.png'}", f"{address}/no.png?TOKEN"]
        try:
            assert detect_dataset(paths, **dataset_arguments) == 3
        finally:
            server.shutdown()
            thread.join()
    rows = rows_of(dataset_arguments["output"])
    check_row(rows["0.png?TOKEN"], folder)
    check_row(rows["1.png"], folder)
    error = rows["no.png?TOKEN"]["error"]
    assert "No such file" in error
    assert "TOKEN" not in error


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_incomplete_parquet_files_are_put_aside(cluster, folder, dataset_arguments):
    from yolotf.ray import detect_dataset

    output = dataset_arguments["output"]
    paths = [folder / "0.png", folder / "1.png"]
    assert detect_dataset(paths, **dataset_arguments) == 2
    (whole,) = output.rglob("*.parquet")
    content = whole.read_bytes()
    whole.write_bytes(content[: len(content) // 2])
    (output / "empty.parquet").touch()
    os.mkfifo(output / "fifo.parquet")
    assert detect_dataset(paths, **dataset_arguments) == 2
    (output / "fifo.parquet").unlink()
    assert {path.name for path in output.glob("*.broken")} == {
        f"_{whole.name}.broken",
        "_empty.parquet.broken",
    }
    assert sorted(rows_of(output)) == ["0.png", "1.png"]


def test_other_parquet_files_are_not_touched(folder, tmp_path, dataset_arguments):
    import pyarrow
    import pyarrow.parquet

    from yolotf.ray import detect_dataset

    output = dataset_arguments["output"]
    output.mkdir()
    for columns in ({"a": [1]}, {"path": ["0.png"], "error": ["mine"]}):
        pyarrow.parquet.write_table(pyarrow.table(columns), output / "mine.parquet")
        before = (output / "mine.parquet").read_bytes()
        with refused(OSError):
            detect_dataset([folder / "0.png"], **dataset_arguments)
        assert (output / "mine.parquet").read_bytes() == before


@pytest.mark.parametrize("option", [{"iou_threshold": 1}, {"batch_size": 0}, {"cpus": 0}], ids=str)
def test_a_refused_option_leaves_the_output_as_it_was(folder, dataset_arguments, option):
    import pyarrow
    import pyarrow.parquet

    from yolotf.ray import dataset, detect_dataset

    output = dataset_arguments["output"]
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - its sentence is in other tests
        detect_dataset([folder / "0.png"], **{**dataset_arguments, **option})
    assert next(iter(option)) in str(caught.value)
    assert not output.exists()

    output.mkdir()
    failed = {name: [[]] for name in dataset._SCHEMA.names} | {"path": ["/a.png"], "error": ["bad"]}
    pyarrow.parquet.write_table(
        pyarrow.table(failed, schema=dataset._SCHEMA), output / "errors.parquet"
    )
    (output / "incomplete.parquet").write_bytes(b"PAR1")
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - its sentence is in other tests
        detect_dataset([folder / "0.png"], **{**dataset_arguments, **option})
    assert next(iter(option)) in str(caught.value)
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before


def test_parquet_file_that_cannot_be_read_now_is_not_put_aside(dataset_arguments, monkeypatch):
    import pyarrow.parquet

    from yolotf.ray import detect_dataset

    output = dataset_arguments["output"]
    output.mkdir()
    (output / "a.parquet").touch()

    def denied(path, *arguments, **options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(pyarrow.parquet, "read_schema", denied)
    with pytest.raises(PermissionError):
        detect_dataset(["0.png"], **dataset_arguments)
    assert [path.name for path in output.iterdir()] == ["a.parquet"]


def test_a_dataset_with_the_files_in_it(cluster, folder, tmp_path):
    from yolotf.ray import detect_dataset

    dataset = ray.data.read_binary_files(str(folder / "0.png"), include_paths=True)
    images = detect_dataset(
        dataset, str(folder / "small.cfg"), str(folder / "a.weights"), tmp_path / "found"
    )
    assert images == 1
    with refused(ValueError):
        detect_dataset(
            ray.data.from_items([{"name": "x"}]),
            str(folder / "small.cfg"),
            str(folder / "a.weights"),
            tmp_path / "other",
        )


@pytest.mark.parametrize(
    ("option", "value"), [("iou", 1), ("score", -0.5), ("max_boxes", 0), ("batch_size", 0)]
)
def test_settings_refuse_what_a_detector_would(option, value):
    import pydantic

    from yolotf.ray import Settings

    with pytest.raises(pydantic.ValidationError) as caught:
        Settings(network="yolov4", weights="yolov4.weights", **{option: value})
    (problem,) = caught.value.errors()
    said(problem["msg"])


def test_settings_show_no_secret():
    import pydantic

    from yolotf.ray import Settings

    url = "https://me:TOKEN@host/a.weights?sig=TOKEN"
    settings = Settings(network="yolov4", weights=url)
    assert settings.weights == url
    for shown in (repr(settings), str(settings), f"{[settings]}"):
        assert "https://host/a.weights" in shown
        assert "TOKEN" not in shown
    wrong = [
        {"weights": [url]},
        {"weights": url, "iou": 7},
        {"weights": "a", "score": url},
    ]
    for options in wrong:
        with pytest.raises(pydantic.ValidationError) as caught:
            Settings(**{"network": "yolov4", **options})
        assert "TOKEN" not in f"{caught.value} {caught.value!r}"


def test_settings_take_old_names():
    from yolotf.ray import Settings

    old = Settings(cfg="yolov4", weights="a", names="b", score=0.5, iou=0.6)
    new = Settings(
        network="yolov4", weights="a", class_names="b", score_threshold=0.5, iou_threshold=0.6
    )
    assert old == new == Settings(**new.model_dump())


def test_recurrent_networks_are_refused(folder):
    from yolotf.ray.settings import Settings, detector_of

    text = CFG.replace("[convolutional]\nfilters=18", "[crnn]\nsize=1\n[convolutional]\nfilters=18")
    (folder / "tracker.cfg").write_text(text)
    settings = Settings(cfg=str(folder / "tracker.cfg"), weights=str(folder / "none.weights"))
    with refused(
        yolotf.errors.UnsupportedSectionError, code="unsupported-section", section="crnn", line=12
    ):
        detector_of(settings)
