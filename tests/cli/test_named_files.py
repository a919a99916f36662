"""A FIFO, a device or a secret file named anywhere is refused at once, and not quoted."""

from __future__ import annotations

import contextlib
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support import helpers, messages, numpy_loader
from support.cfgs import conv, net, normalized, section, yolo
from yolotf import Classifier, Detector, parse_cfg
from yolotf.cli import commands
from yolotf.darknet import class_tree as tree
from yolotf.errors import YolotfError
from yolotf.evaluation.coco import read_coco
from yolotf.files import opening
from yolotf.images.read import MAX_PIXELS, open_picture

pytestmark = pytest.mark.usefixtures("in_time")

NETWORK = net(32) + normalized(8, 3, stride=2) + conv(24) + yolo(3)
SECRET = "root:$6$salt$hash:19000:0:99999:7:::\n"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder with a network, a data set, a FIFO and a secret file."""
    monkeypatch.chdir(tmp_path)
    helpers.write_detector(NETWORK)
    Path("pictures").mkdir()
    Image.new("RGB", (40, 30)).save("pictures/a.png")
    Path("shadow").write_text(SECRET)
    os.mkfifo("fifo")
    os.mkfifo("pictures/fifo.jpg")
    return tmp_path


def put(argument, name):
    """The arguments of a run that is given `name` as `argument`; writes the files it needs."""
    files = ["--cfg", "net.cfg", "--weights", "net.weights"]
    data = {"valid": "list.txt", "names": "net.names"}
    Path("list.txt").write_text("pictures/a.png\n")
    if argument in data:
        data[argument] = name
    if argument == "picture of a list":
        Path("list.txt").write_text(f"{name}\n")
    if argument == "picture of a COCO file":
        Path("coco.json").write_text(
            json.dumps(
                {
                    "images": [{"id": 1, "file_name": name, "width": 40, "height": 30}],
                    "annotations": [
                        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9]}
                    ],
                    "categories": [{"id": 1, "name": "cat"}],
                }
            )
        )
        return ["eval", "--coco", "coco.json", *files, "--names", "net.names"]
    if argument == "val of a YAML file":
        Path("data.yaml").write_text(f"val: {name}\nnames: [cat, dog, kite]\n")
        return ["eval", "--data", "data.yaml", *files]
    if argument == "difficult":
        data["difficult"] = name
        Path("pictures/a.txt").write_text("0 .5 .5 .5 .5\n")
    if argument == "picture to calibrate by":
        Path("calibration").mkdir()
        Path("calibration/a.jpg").symlink_to(Path(name).absolute())
        output = ["-o", "net.tflite", "--int8", "calibration"]
        return ["convert", "net.weights", "--cfg", "net.cfg", *output]
    if argument == "labels":
        Path("pictures/a.txt").symlink_to(Path(name).absolute())
    Path("net.data").write_text("".join(f"{key}={value}\n" for key, value in data.items()))
    match argument:
        case "cfg":
            return ["detect", "pictures/a.png", "--cfg", name, "--weights", "net.weights"]
        case "names of detect":
            return ["detect", "pictures/a.png", *files, "--names", name, "--json"]
        case "picture":
            return ["detect", name, *files, "--json"]
        case "picture of classify":
            Path("c.cfg").write_text(net(32) + conv(8) + "[avgpool]\n[softmax]\n")
            Path("c.weights").write_bytes(numpy_loader.random_file(Path("c.cfg").read_text()))
            return ["classify", name, "--cfg", "c.cfg", "--weights", "c.weights"]
        case "coco":
            return ["eval", "--coco", name, *files]
        case "compare":
            return ["eval", "--compare", name, name]
        case "data":
            return ["eval", "--data", name, *files]
        case "model":
            return ["check", "net.weights", "--model", name]
    return ["eval", "--data", "net.data", *files]


ARGUMENTS = [
    *("cfg", "names of detect", "picture", "picture of classify", "coco", "compare", "data"),
    *("valid", "names", "labels", "picture of a list", "model", "difficult"),
    *("picture of a COCO file", "val of a YAML file"),
    "picture to calibrate by",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["./fifo", "/dev/zero", "./shadow"])
@pytest.mark.parametrize("argument", ARGUMENTS)
def test_named_file_is_refused_at_once_and_not_quoted(argument, name, capsys):
    code = commands.main(put(argument, name))
    # A list of difficult labels may name anything: no line of it is a picture here.
    assert code == (0 if (argument, name) == ("difficult", "./shadow") else 2)
    captured = capsys.readouterr()
    printed = captured.out + captured.err
    assert "Traceback" not in printed
    if argument not in ("cfg", "data"):  # which the user names, not a file
        assert "hash" not in printed
    if name != "./shadow":
        messages.said(messages.reported(captured.err))


@pytest.mark.parametrize("command", ["detect", "classify"])
def test_an_endless_line_on_standard_input_is_refused(command, capsys, monkeypatch):
    class Endless(io.StringIO):
        def readline(self, size=-1):
            assert 0 < size < 1 << 20, "reads on until memory ends"
            return "a" * size

        def __next__(self):
            raise AssertionError("reads on until memory ends")

    monkeypatch.setattr("sys.stdin", Endless())
    cfg = NETWORK if command == "detect" else net(32) + conv(8) + "[avgpool]\n[softmax]\n"
    Path("net.cfg").write_text(cfg)
    Path("net.weights").write_bytes(numpy_loader.random_file(cfg))
    Path("net.names").unlink()
    files = ["--cfg", "net.cfg", "--weights", "net.weights", "--json"]
    assert commands.main([command, "-", *files]) == 2
    messages.said(messages.reported(capsys.readouterr().err))


def test_the_other_pictures_of_a_folder_are_read(capsys):
    files = ["--cfg", "net.cfg", "--weights", "net.weights"]
    assert commands.main(["detect", "pictures", *files, "--json"]) == 2
    printed = capsys.readouterr()
    first, second = (json.loads(line) for line in printed.out.splitlines())
    assert (first["path"], first["width"]) == ("pictures/a.png", 40)
    assert second.keys() == {"path", "error"}
    assert second["path"] == "pictures/fifo.jpg"
    messages.said(second["error"])


# Class trees.

TREE = "a -1\nb -1\nc 0\n"


def tree_cfg(name):
    anchors = section("region", anchors="1,2", classes=3, coords=4, num=1, softmax=1, tree=name)
    return net(32) + conv(8) + anchors


def network_with(name, folder="."):
    path = Path(folder, "tree.cfg")
    path.write_text(tree_cfg(name))
    return parse_cfg(path)


@pytest.mark.parametrize("name", ["fifo", "data/fifo"])
def test_a_class_tree_is_a_regular_file(name):
    with messages.refused(OSError):
        tree.tree_of(network_with(name), name, 3)


@pytest.mark.parametrize("name", ["/etc/passwd", "../../etc/passwd", "a/../../b", "/dev/zero"])
def test_class_tree_is_read_beside_its_cfg(name, tmp_path):
    with messages.refused(YolotfError):
        tree.tree_of(network_with(name), name, 3)
    weights = tmp_path / "tree.weights"
    weights.write_bytes(numpy_loader.random_file(tree_cfg(name)))
    with messages.refused(YolotfError):
        Detector(network_with(name), weights)


def test_class_tree_is_not_looked_for_in_the_working_folder(tmp_path):
    (tmp_path / "cfg").mkdir()
    Path("a.tree").write_text(TREE)
    network = network_with("a.tree", "cfg")
    with messages.refused(FileNotFoundError):
        tree.tree_of(network, "a.tree", 3)
    asked = network.with_tree("a.tree")
    assert tree.tree_of(asked, asked.heads[0].tree, 3).names == ("a", "b", "c")
    (tmp_path / "cfg/a.tree").write_text(TREE)
    for name in ("a.tree", "data/a.tree", "./a.tree"):
        assert tree.tree_of(network_with(name, "cfg"), name, 3).names == ("a", "b", "c")


def test_bad_line_of_a_class_tree_is_not_quoted():
    with messages.refused(YolotfError) as caught:
        tree.tree_of(network_with("shadow"), "shadow", 3)
    assert "hash" not in str(caught.value)
    assert caught.value.line == 1


def test_an_endless_file_is_read_no_further_than_its_limit(tmp_path, monkeypatch):
    endless = tmp_path / "a.tree"
    endless.write_bytes(b"")
    os.truncate(endless, 1 << 40)
    with messages.refused(OSError):
        tree.tree_of(network_with("a.tree"), "a.tree", 3)
    monkeypatch.setattr(opening, "MAX_NAMES_BYTES", 4)
    endless.write_text(TREE)
    with messages.refused(OSError):
        tree.tree_of(network_with("a.tree"), "a.tree", 3)


def test_file_that_becomes_a_fifo_is_not_waited_for(tmp_path, monkeypatch):
    path = tmp_path / "a.names"
    path.write_text("cat\n")
    open_file = os.open

    def replaced(name, *arguments, **options):
        path.unlink()
        os.mkfifo(path)
        return open_file(name, *arguments, **options)

    monkeypatch.setattr(os, "open", replaced)
    with pytest.raises(opening.NotRegularError):
        opening.read(path, max_bytes=100, kind="names")


# Pixels.


@pytest.fixture
def bomb(tmp_path):
    """An image of 13,000 x 13,000 pixels in half a megabyte."""
    path = tmp_path / "bomb.png"
    Image.new("L", (13_000, 13_000)).save(path)
    assert path.stat().st_size < 1 << 20
    return path


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(bomb, monkeypatch):
    from PIL import ImageFile

    def decoded(_):
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decoded)
    detector = Detector("net.cfg", "net.weights")
    text = net(32) + conv(8) + "[avgpool]\n[softmax]\n"
    Path("c.weights").write_bytes(numpy_loader.random_file(text))
    classifier = Classifier(text, "c.weights")
    with bomb.open("rb") as file, Image.open(bomb) as image:
        for given in (bomb, bomb.read_bytes(), file, image):
            with messages.refused(OSError):
                detector(given)
            if given is not file:
                with messages.refused(OSError):
                    classifier(given)
    assert commands.main(["detect", str(bomb), "--cfg", "net.cfg", "--weights", "net.weights"]) == 2


def test_no_image_starts_another_program(tmp_path, monkeypatch, capsys):
    """Pillow starts Ghostscript for EPS, whatever the file is called."""
    started = tmp_path / "started"
    ghostscript = tmp_path / "bin/gs"
    ghostscript.parent.mkdir()
    ghostscript.write_text(f"#!/bin/sh\necho x > {started}\nexit 1\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ghostscript.parent}:{os.environ['PATH']}")
    content = io.BytesIO()
    Image.new("RGB", (40, 30)).save(content, "EPS")
    eps = Path("photo.jpg")
    eps.write_bytes(content.getvalue())
    with eps.open("rb") as file, Image.open(eps) as image:
        for given in (eps, str(eps), eps.read_bytes(), file, image):
            with messages.refused(OSError):
                open_picture(given)
    files = ["--cfg", "net.cfg", "--weights", "net.weights", "--json"]
    assert commands.main(["detect", "photo.jpg", *files]) == 2
    messages.said(messages.reported(capsys.readouterr().err))
    assert not started.exists()


def test_max_pixels_is_an_argument(capsys):
    with messages.refused(OSError):
        Detector("net.cfg", "net.weights", max_pixels=1199)("pictures/a.png")
    with messages.refused(OSError):
        open_picture("pictures/a.png", max_pixels=1199)
    assert open_picture("pictures/a.png", max_pixels=None).size == (40, 30)
    assert MAX_PIXELS > 12_000 * 9_000, "a camera's 108 million"
    files = ["--cfg", "net.cfg", "--weights", "net.weights", "--json"]
    assert commands.main(["detect", "pictures/a.png", *files, "--max-pixels", "1199"]) == 2
    messages.said(messages.reported(capsys.readouterr().err))
    pixels = np.zeros((30, 40, 3), np.uint8)
    assert len(Detector("net.cfg", "net.weights", max_pixels=1, score_threshold=0.99)(pixels)) == 0


# Values of data files and results that no tool writes.

BAD_VALUES = [
    *(None, True, "x", "a\0b", "\ud800", "a" * 5000, "9" * 5000, "\x1b[2J", "/dev/zero"),
    *(-1, 0, 0.5, 10**30, 10**200, 1e308, float("nan"), float("inf")),
    *([], [[[[[]]]]], {"a": 1}),
]
INSTANCES = {
    "images": [{"id": 1, "file_name": "pictures/a.png", "width": 40, "height": 30}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0}
    ],
    "categories": [{"id": 1, "name": "cat"}],
}
RESULT = {
    **{"map": 0.5, "precision": 0.5, "tp": 3, "network": "a"},
    **{"classes": [{"name": "cat", "ap": 0.5}], "coco": {"AP": 0.5}},
}


def mutants(value):
    """Copies of a JSON value with a bad value in place of each of its parts."""
    for bad in BAD_VALUES:
        yield bad
        if isinstance(value, list) and value:
            yield [bad] * len(value)
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            for mutant in mutants(value[key]):
                changed = dict(value) if isinstance(value, dict) else list(value)
                changed[key] = mutant
                yield changed


TEXTS = ["", "\0", "[" * 100_000, '{"a":' * 100_000, '{"images":' + "9" * 5000 + "}"]


@pytest.mark.slow
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_any_value_of_a_coco_file_is_read_or_refused(capsys):
    for text in (*TEXTS, *map(json.dumps, mutants(INSTANCES))):
        Path("coco.json").write_text(text)
        with contextlib.suppress(YolotfError, OSError):
            read_coco("coco.json")
    box = {**INSTANCES["annotations"][0], "bbox": [10**200] * 4}
    Path("coco.json").write_text(json.dumps({**INSTANCES, "annotations": [box]}))
    files = ["--cfg", "net.cfg", "--weights", "net.weights", "--names", "net.names"]
    assert commands.main(["eval", "--coco", "coco.json", *files]) == 2
    messages.said(messages.reported(capsys.readouterr().err))


@pytest.mark.slow
def test_any_value_of_a_result_is_compared_or_refused(capsys):
    Path("a.json").write_text(json.dumps(RESULT))
    for text in (*TEXTS, *map(json.dumps, mutants(RESULT))):
        Path("b.json").write_text(text)
        for order in (["a.json", "b.json"], ["b.json", "a.json"]):
            assert commands.main(["eval", "--compare", *order]) in (0, 2), text[:200]
            assert "Traceback" not in "".join(capsys.readouterr())


LAUGHS = "a0: &a0 [x, x]\n" + "".join(
    f"a{depth}: &a{depth} [{', '.join([f'*a{depth - 1}'] * 9)}]\n" for depth in range(1, 12)
)
YAML_VALUES = [
    *("/dev/zero", "./fifo", "/etc/passwd", "./shadow", "pictures", "/", '"a\\0b"', "a" * 5000),
    *("https://u:hunter@host.invalid/a?tok3n", "[]", "{a: b}", "[[a]]", "[fifo, shadow]", "~"),
    *("*a11", "&v [*v]", "&v {0: *v}", "[" * 5000, '"\\uD800"', "9" * 5000, "-1", "nan"),
    *("!!python/object/apply:os.system [ls]", "/proc/kmsg"),
]


@pytest.mark.slow
@pytest.mark.parametrize("key", ["path", "val", "train", "names", "nc"])
def test_any_value_of_a_data_yaml_is_read_or_refused(key, capsys):
    Path("pictures/a.txt").write_text("0 .5 .5 .5 .5\n")
    Path("pictures/fifo.jpg").unlink()
    files = ["--cfg", "net.cfg", "--weights", "net.weights"]
    for value in YAML_VALUES:
        keys = {"val": "pictures", "names": "[cat, dog, kite]", key: value}
        if key == "train":
            del keys["val"]
        Path("data.yaml").write_text(LAUGHS + "".join(f"{k}: {v}\n" for k, v in keys.items()))
        assert commands.main(["eval", "--data", "data.yaml", *files]) in (0, 2)
        printed = "".join(capsys.readouterr())
        assert "Traceback" not in printed
        assert len(printed) < 4000
        assert not [secret for secret in ("hash", "root:", "hunter", "tok3n") if secret in printed]
