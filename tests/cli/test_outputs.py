"""No output of a command replaces a file that another program wrote, or an input."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import os
import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from support import helpers, messages, numpy_loader
from support.cfgs import conv, net, normalized, section, yolo
from yolotf import Detector, build_model, diagnose, save_darknet_weights
from yolotf.cli import commands
from yolotf.diagnosis import render
from yolotf.files import opening, output_target, read_files
from yolotf.formats.convert import convert

pytestmark = pytest.mark.slow

NETWORK = (
    net(32, 64) + normalized(8, 3, stride=2) + normalized(16, 3, stride=2) + conv(24) + yolo(3)
)
MINE = b"years of work"

READ_OR_SET = {
    "build-op": {"force"},
    "check": {
        "timeout",
        "trust_model",
        "file",
        "dialect",
        "cfg",
        "classes",
        "model",
        "json",
        "overwrite",
    },
    "classify": {
        *("inputs", "cfg", "dialect", "size", "tree", "max_pixels", "weights", "names", "top"),
        "classes",
        *("json", "timeout", "resize", "recursive", "batch_size", "engine", "precision", "threads"),
    },
    "convert": {
        *("cfg", "dialect", "classes", "size", "tree", "max_pixels", "overwrite", "old_keras"),
        *("any_size", "fixed_input_shape", "plot_model", "yolo4_reorder", "weights_only"),
        *("batch_size", "decode", "fp16", "int8", "allow_inaccurate", "layout", "names"),
        *("suppress", "score_threshold", "iou_threshold", "int8_only", "max_boxes", "timeout"),
    },
    "demo": set(),
    "detect": {
        "dialect",
        *(
            "inputs",
            "cfg",
            "classes",
            "only",
            "size",
            "tree",
            "max_pixels",
            "weights",
            "names",
            "score_threshold",
            "iou_threshold",
        ),
        *("agnostic", "max_boxes", "batch_size", "recursive", "line_width", "no_labels", "json"),
        *("overwrite", "save_conf", "coco_like", "timeout"),
        *("letter_box", "resize", "engine", "precision", "threads", "nms_kind"),
    },
    "doctor": {"json"},
    "eval": {
        "dialect",
        *(
            "data",
            "coco",
            "compare",
            "cfg",
            "classes",
            "size",
            "tree",
            "max_pixels",
            "weights",
            "images",
            "points",
        ),
        *(
            "match_iou",
            "score_threshold",
            "batch_size",
            "letter_box",
            "json",
            "overwrite",
            "names",
            "resize",
            *("like", "engine", "precision", "threads", "nms_kind", "top"),
        ),
        "timeout",
    },
    "export": {
        *("weights", "cfg", "dialect", "classes", "size", "tree", "overwrite", "names", "resize"),
        *("letter_box", "max_pixels", "timeout", "score_threshold", "iou_threshold", "max_boxes"),
        *("agnostic", "only", "nms_kind"),
    },
    "inspect": {"file", "cfg", "classes", "dialect", "json", "timeout"},
    "save": {
        *("file", "cfg", "dialect", "classes", "upto", "seen", "fold_epsilon", "trust_model"),
        *("overwrite", "timeout"),
    },
}
"""The arguments of each command that name no output; all others have to be in `OUTPUTS`."""

FILES = ["--cfg", "net.cfg", "--weights", "net.weights"]
EVAL = ["eval", "--data", "net.data", *FILES, "--names", "net.names"]
EXPORT = ["export", "net.weights", "--cfg", "net.cfg", "-o", "served"]
NAMES_OF_DATA = ["--names", "net.data", "--json"]
REGION = {"anchors": "1,2", "classes": 3, "coords": 4, "num": 1, "softmax": 1}
DETECT = ["detect", "pictures", *FILES, "--names", "net.names"]


@dataclass(frozen=True)
class Output:
    """An argument that names what is written.

    Attributes:
        command: the command that has it.
        argument: what argparse calls it.
        arguments: a run that writes.
        writes: the files that appear.
        renames: whether a name that is taken gets a number; otherwise it is refused.
        inputs: files that the run reads, under names that the output could have.
        names: the run with another name for the output; None where the command chooses names.
    """

    command: str
    argument: str
    arguments: Sequence[str]
    writes: Sequence[str]
    renames: bool = False
    inputs: Sequence[str] = ()
    names: Callable[[str], Sequence[str]] | None = None

    def __str__(self) -> str:
        return f"{self.command}-{self.argument}-{Path(self.writes[0]).name}"


def convert_to(name):
    return ["convert", "net.weights", "--cfg", "net.cfg", "-o", name]


def convert_with_names(name):
    return [*convert_to(name), "--names", "names.onnx"]


def save_to(name):
    return ["save", "net.weights", "--cfg", "net.cfg", "-o", name]


OUTPUTS = [
    Output(
        "detect",
        "output",
        [*DETECT, "-o", "out"],
        ["out/a.png", "out/b.jpg"],
        renames=True,
        inputs=["pictures/a.png", "pictures/b.jpg"],
    ),
    Output("detect", "output", ["detect", "clip.avi", *FILES, "-o", "out"], ["out/clip.mp4"], True),
    Output(
        "detect",
        "save_txt",
        [*DETECT, "--save-txt", "--json"],
        ["detections/a.txt", "detections/b.txt"],
        renames=True,
    ),
    Output(
        "detect",
        "save_txt",
        [*DETECT, "--save-txt", "--json", "-o", "pictures"],
        ["pictures/a.txt", "pictures/b.txt"],
        renames=True,
        inputs=["pictures/a.png", "pictures/b.jpg"],
    ),
    Output(
        "detect",
        "coco_json",
        [*DETECT, "--json", "--coco-json", "found.json"],
        ["found.json", "found.images.json"],
        inputs=["net.weights", "net.cfg", "net.names", "pictures/a.png"],
        names=lambda name: [*DETECT, "--json", "--coco-json", name],
    ),
    Output(
        "check",
        "html",
        ["check", "net.weights", "--cfg", "net.cfg", "--html", "page.html"],
        ["page.html"],
        inputs=["net.weights", "net.cfg"],
        names=lambda name: ["check", "net.weights", "--cfg", "net.cfg", "--html", name],
    ),
    Output(
        "eval",
        "plot",
        [*EVAL, "--plot", "curve.png"],
        ["curve.png"],
        inputs=["pictures/a.png", "pictures/b.jpg"],
        names=lambda name: [
            "eval",
            "--data",
            "net.data",
            *FILES,
            "--names",
            "net.names",
            "--plot",
            name,
        ],
    ),
    Output(
        "convert",
        "output",
        convert_to("net.safetensors"),
        ["net.safetensors"],
        inputs=["weights.safetensors"],
        names=convert_to,
    ),
    Output(
        "convert",
        "output",
        convert_with_names("net.onnx"),
        ["net.onnx"],
        inputs=["weights.onnx", "names.onnx"],
        names=convert_with_names,
    ),
    Output("convert", "output", convert_to("model/"), ["model/saved_model.pb"]),
    Output(
        "export",
        "output",
        ["export", "net.weights", "--cfg", "net.cfg", "--names", "net.names", "-o", "served"],
        ["served/saved_model.pb", "served/assets.extra/classes.names"],
    ),
    Output(
        "save",
        "output",
        save_to("saved.weights"),
        ["saved.weights"],
        inputs=["net.weights", "net.cfg"],
        names=save_to,
    ),
    Output(
        "convert",
        "files",
        ["convert", "net.cfg", "net.weights", "net.safetensors"],
        ["net.safetensors", "net_anchors.txt"],
    ),
]

every_output = pytest.mark.parametrize("output", OUTPUTS, ids=str)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A network, labelled pictures, a video; the weights and cfg under names of outputs, too."""
    monkeypatch.chdir(tmp_path)
    helpers.write_detector(NETWORK)
    Path("pictures").mkdir()
    random = np.random.default_rng(0)
    for name in ("a.png", "b.jpg"):
        pixels = random.integers(0, 256, (48, 80, 3), np.uint8)
        Image.fromarray(pixels).save(Path("pictures", name))
    writer = cv2.VideoWriter("clip.avi", cv2.VideoWriter.fourcc(*"MJPG"), 5.0, (80, 48))
    for _ in range(5):
        writer.write(random.integers(0, 256, (48, 80, 3), np.uint8))
    writer.release()
    Path("labels").mkdir()
    Path("labels/a.txt").write_text("0 .5 .5 .5 .5\n")
    Path("list.txt").write_text("pictures/a.png\npictures/b.jpg\n")
    Path("net.data").write_text("classes=3\nvalid=list.txt\nnames=net.names\n")
    os.link("net.weights", "weights.safetensors")
    os.link("net.weights", "weights.onnx")
    os.link("net.names", "names.onnx")
    return tmp_path


def contents():
    return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}


def test_every_argument_of_every_command_is_known():
    """Add a new argument to OUTPUTS if it names an output, else to READ_OR_SET."""
    for command, (module, _) in commands.COMMANDS.items():
        parser = argparse.ArgumentParser()
        importlib.import_module(f"yolotf.cli.{module}").add_arguments(parser)
        arguments = {action.dest for action in parser._actions} - {"help"}
        outputs = {output.argument for output in OUTPUTS if output.command == command}
        if command == "demo":
            outputs = {"output"}  # tests/cli/test_demo_data.py
        assert arguments == READ_OR_SET[command] | outputs, command


@every_output
def test_output_is_written(output):
    before = contents()
    assert commands.main(output.arguments) == 0
    written = contents()
    assert {Path(path) for path in output.writes} <= set(written)
    assert {path: written[path] for path in before} == before


@every_output
def test_file_of_another_program_is_kept(output, capsys):
    for path in output.writes:
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_bytes(MINE)
    before = contents()
    code = commands.main(output.arguments)
    after = contents()
    assert {path: after[path] for path in before} == before
    stderr = capsys.readouterr().err
    if output.renames:
        assert code == 0
        for path in map(Path, output.writes):
            other = path.with_name(f"{path.stem}-2{path.suffix}")
            assert other in after
            assert after[other] != MINE
    else:
        assert code == 2
        assert after == before
        assert stderr.count("\n") == 1
    messages.said(messages.reported(stderr))
    assert commands.main([*output.arguments, "--overwrite"]) == 0
    replaced = contents()
    assert all(replaced[Path(path)] != MINE for path in output.writes)


@every_output
@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)], ids=["", "overwrite"])
@pytest.mark.parametrize("link", [None, os.link, os.symlink], ids=["itself", "hard", "symbolic"])
def test_input_is_kept(output, overwrite, link, capsys):
    before = contents()
    for name in output.inputs:
        if output.names is None:
            arguments = list(output.arguments)
            if link is not None:
                continue
        else:
            target = name
            if link is not None:
                target = f"other{Path(name).suffix}"
                Path(target).unlink(missing_ok=True)
                link(Path(name).absolute(), target)
            arguments = list(output.names(target))
        code = commands.main([*arguments, *overwrite])
        stderr = capsys.readouterr().err
        after = contents()
        assert {path: after[path] for path in before} == before
        if not output.renames:
            assert code == 2
            messages.said(messages.reported(stderr))


def detect_listed(target):
    return ["detect", "-", *FILES, "--json", "--coco-json", target]


NAMED_FILES = {
    "names of a data file": (
        lambda target: ["detect", "pictures", *FILES, *NAMES_OF_DATA, "--coco-json", target],
        "net.names",
    ),
    "names of a data file, by labels": (
        lambda target: ["detect", "pictures", *FILES, *NAMES_OF_DATA, "--save-txt", "-o", "out"],
        "net.names",
    ),
    "image on standard input": (detect_listed, "pictures/a.png"),
    "list of a data file": (lambda target: [*EVAL, "--plot", target], "list.txt"),
    "labels of an image": (lambda target: [*EVAL, "--plot", target], "labels/a.txt"),
    "names of a data file, by a plot": (lambda target: [*EVAL[:-2], "--plot", target], "net.names"),
    "tree, by convert": (convert_to, "net.tree"),
    "tree, by check": (
        lambda target: ["check", "net.weights", "--cfg", "net.cfg", "--html", target],
        "net.tree",
    ),
    "tree, by detect": (
        lambda target: ["detect", "pictures", *FILES, "--json", "--coco-json", target],
        "net.tree",
    ),
    "names, by export": (
        lambda target: [*EXPORT, "--names", "served/assets.extra/classes.names"],
        "served/assets.extra/classes.names",
    ),
    "weights, by export": (
        lambda target: ["export", "served/saved_model.pb", *EXPORT[2:]],
        "served/saved_model.pb",
    ),
}
"""Files that a run reads without an argument that is their path, or in a folder of outputs.

Each is (the arguments of a run that writes to a path, the file).
"""


@pytest.mark.parametrize("case", NAMED_FILES)
def test_file_that_an_input_names_is_kept(case, capsys, monkeypatch):
    arguments_to, name = NAMED_FILES[case]
    if name == "net.tree":
        network = net(32) + conv(8) + section("region", **REGION, tree=name)
        Path("net.cfg").write_text(network)
        Path("net.weights").write_bytes(numpy_loader.random_file(network))
        Path(name).write_text("cat -1\ndog -1\nkite -1\n")
    if name.startswith("served"):
        Path(name).parent.mkdir(parents=True)
        source = "net.names" if name.endswith("names") else "net.weights"
        Path(name).write_bytes(Path(source).read_bytes() + b"\n" * name.endswith("names"))
    Path("out").mkdir()
    for target in ("link.png", "link.onnx", "link.html", "out/a.txt"):
        Path(target).symlink_to(Path(name).absolute())
    before = contents()
    target = {"convert": "link.onnx", "check": "link.html"}.get(arguments_to("")[0], "link.png")
    monkeypatch.setattr("sys.stdin", io.StringIO("pictures/a.png\n"))
    code = commands.main([*arguments_to(target), "--overwrite"])
    after = contents()
    assert {path: after[path] for path in before} == before
    if "labels" in case and "by" in case:
        assert Path("out/a-2.txt").exists()
    else:
        assert code == 2
        assert after == before
        stderr = capsys.readouterr().err
        messages.said(messages.reported(stderr))


def test_functions_replace_no_file_that_they_read():
    Path("out").mkdir()
    Path("served/variables").mkdir(parents=True)
    for target in ("out/a.onnx", "served/saved_model.pb", "served/fingerprint.pb"):
        source = "net.names" if "model" in target or "onnx" in target else "net.weights"
        Path(target).symlink_to(Path(source).absolute())
    before = contents()
    detector = Detector("net.cfg", "net.weights", class_names="net.data")
    calls = [
        lambda: save_darknet_weights(build_model("net.cfg"), "net.cfg", network="net.cfg"),
        lambda: convert("net.weights", "net.cfg", "out/a.onnx", class_names="net.data"),
        lambda: render.write_html(diagnose("net.weights", "net.cfg"), "net.weights"),
        lambda: detector.export("served"),
    ]
    for call in calls:
        with messages.refused(FileExistsError):
            call()
        assert contents() == before
    Path("served/saved_model.pb").unlink()
    with messages.refused(FileExistsError):
        detector.export("served")
    Path("served/fingerprint.pb").unlink()
    detector.export("served")


def test_inode_of_a_deleted_input_is_no_input(tmp_path):
    with read_files.remembered():
        opening.read("net.names", max_bytes=100, kind="names")
        Path("net.names").rename("b.names")  # as if another file got its inode
        assert not output_target.is_input("b.names")
        assert not output_target.is_input("net.cfg")


def test_own_files_in_the_folder_of_a_saved_model_are_kept(capsys):
    for name in ("notes", "variables/notes", "assets/notes", "assets.extra/tf_serving_warmup"):
        path = Path("served", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(MINE)
    before = contents()
    for arguments in (EXPORT, convert_to("served/")):
        assert commands.main([*arguments, "--overwrite"]) == 0
        written = contents()
        assert {path: written[path] for path in before} == before
        assert {path.name for path in Path("served/variables").iterdir()} == {
            "notes",
            "variables.index",
            "variables.data-00000-of-00001",
        }


@contextlib.contextmanager
def full_disk():
    """No file grows beyond a few bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@every_output
@pytest.mark.parametrize("there", [True, False], ids=["there", "new"])
def test_full_disk_keeps_the_old_file(output, there, capsys):
    if there:
        assert commands.main(output.arguments) in (0, 2)
    before = contents()
    with full_disk():
        code = commands.main([*output.arguments, "--overwrite"])
    stderr = capsys.readouterr().err
    assert code == 2, stderr
    assert "Traceback" not in stderr
    assert contents() == before


def test_labels_beside_their_images_are_kept_and_the_answer_names_the_new_ones(capsys):
    truth = {Path("pictures/a.txt"): b"0 0.5 0.5 1 1\n", Path("pictures/b.txt"): b""}
    for path, content in truth.items():
        path.write_bytes(content)
    assert commands.main([*DETECT, "--save-txt", "-o", "pictures", "--json"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["labels"] for answer in answers] == ["pictures/a-2.txt", "pictures/b-2.txt"]
    assert {path: path.read_bytes() for path in truth} == truth


@pytest.mark.parametrize("argument", ["cfg", "names", "tree"])
def test_anchors_replace_no_input_of_the_same_name(argument, capsys):
    name = "net_anchors.txt"
    if argument == "cfg":
        Path("net.cfg").rename(name)
        arguments = ["convert", name, "net.weights", "net.safetensors"]
    elif argument == "names":
        Path("net.names").rename(name)
        arguments = ["convert", "net.cfg", "net.weights", "net.onnx", "--names", name]
    else:
        Path(name).write_text("cat -1\ndog -1\nkite -1\n")
        arguments = ["convert", "net.cfg", "net.weights", "net.safetensors", "--tree", name]
    before = contents()
    assert commands.main([*arguments, "--overwrite"]) == 2
    messages.said(capsys.readouterr().err)
    assert contents() == before


def test_function_replaces_no_file_of_names():
    before = contents()
    with messages.refused(FileExistsError):
        convert("net.weights", "net.cfg", "names.onnx", class_names="net.names")
    assert contents() == before


def test_two_outputs_of_one_run_go_to_two_files(capsys):
    assert commands.main([*DETECT, "--coco-json", "none/found.json", "--json"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    messages.said(printed.err)
    assert commands.main([*DETECT, "-o", "out", "--coco-json", "out/a.png", "--json"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["drawing"] for answer in answers] == ["out/a-2.png", "out/b.jpg"]
    assert isinstance(json.loads(Path("out/a.png").read_text()), list)
