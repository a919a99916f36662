"""The command `yolotf`: usage, exit codes, and the demo against OpenCV and NumPy."""

import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import yolotf
from support.messages import refused
from yolotf.cli import commands as cli
from yolotf.cli import demo_data as _demo_data

COMMAND = Path(sysconfig.get_path("scripts"), "yolotf")


def run(*arguments, **options):
    return subprocess.run(
        [COMMAND, *arguments], capture_output=True, text=True, check=False, **options
    )


def test_help_names_every_command_and_imports_no_tensorflow():
    done = run("--help", env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert done.returncode == 0
    for command in ("demo", "inspect", "check", "detect", "convert"):
        assert re.search(rf"^    {command} ", done.stdout, re.MULTILINE)
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
    assert "yolotf.cli" in imported
    assert not imported & {"tensorflow", "keras", "tf_keras", "cv2"}


@pytest.mark.parametrize("command", ["demo", "inspect", "check", "detect", "convert"])
def test_every_command_has_help(capsys, command):
    with pytest.raises(SystemExit) as stopped:
        cli.main([command, "--help"])
    assert stopped.value.code == 0
    assert f"usage: yolotf {command}" in capsys.readouterr().out


def test_version_is_the_packages(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"yolotf {yolotf.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [[], ["detcet"], ["demo", "--fast"], ["convert", "a.weights", "--size", "4x"]],
)
def test_wrong_usage_is_exit_code_2(capsys, arguments):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("usage: yolotf")


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (yolotf.WeightsMismatch("a.weights: too short"), 1, "yolotf: a.weights: too short\n"),
        (yolotf.SizeMismatchError("a.weights: too long"), 1, "yolotf: a.weights: too long\n"),
        (yolotf.CfgError("a.cfg: no [net]"), 2, "yolotf: a.cfg: no [net]\n"),
        (FileNotFoundError(2, "No such file", "a.cfg"), 2, "yolotf: a.cfg: no such file\n"),
        (OSError("plain"), 2, "yolotf: plain\n"),
        (ImportError("install it"), 2, "yolotf: install it\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_errors_are_one_line_and_an_exit_code(monkeypatch, capsys, error, code, text):
    def fail(folder):
        raise error

    monkeypatch.setattr("yolotf.demo.run", fail)
    assert cli.main(["demo"]) == code
    assert capsys.readouterr() == ("", text)


def test_programming_error_keeps_its_traceback(monkeypatch):
    def fail(folder):
        raise TypeError("a mistake")

    monkeypatch.setattr("yolotf.demo.run", fail)
    with refused(TypeError):
        cli.main(["demo"])


@pytest.mark.slow
@pytest.mark.parametrize("flushed", [True, False], ids=["in the middle", "at the end"])
def test_closed_pipe_is_no_error(flushed):
    script = f"""
import sys
from yolotf.cli import commands as cli
from yolotf.cli import demo
demo.run = lambda folder: print("x" * 100, flush={flushed})
sys.stdin.read()
sys.exit(cli.main(["demo"]))
"""
    command = [sys.executable, "-c", script]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:
        process.stdout.close()
        process.stdin.close()
        stderr = process.stderr.read().decode()
    assert (process.returncode, stderr) == (0, "")


# The demo.


def darknets_resize(pixels, size):
    """Bilinear with the corners on each other, columns first (image.c:1006-1049)."""

    def along(values, axis, wanted):
        positions = np.arange(wanted) * ((values.shape[axis] - 1) / (wanted - 1))
        before = np.minimum(positions.astype(int), values.shape[axis] - 2)
        part = (positions - before).reshape(
            [-1 if dimension == axis else 1 for dimension in range(3)]
        )
        first, second = (np.take(values, before + step, axis) for step in (0, 1))
        return (1 - part) * first + part * second

    return along(along(pixels, 1, size), 0, size)


def darknets_suppression(boxes, scores, threshold):
    """greedynms: overlap less the distance of the centres (box.c:195-212, 868-930)."""
    kept = []
    for index in np.argsort(-scores):
        x, y, width, height = boxes[index]
        for other in kept:
            u, v, w, h = boxes[other]
            low = np.maximum([x - width / 2, y - height / 2], [u - w / 2, v - h / 2])
            high = np.minimum([x + width / 2, y + height / 2], [u + w / 2, v + h / 2])
            common = np.prod(np.maximum(high - low, 0))
            hull = np.maximum([x + width / 2, y + height / 2], [u + w / 2, v + h / 2])
            hull = hull - np.minimum([x - width / 2, y - height / 2], [u - w / 2, v - h / 2])
            distance = ((x - u) ** 2 + (y - v) ** 2) / (hull**2).sum()
            if common / (width * height + w * h - common) - distance**0.6 > threshold:
                break
        else:
            kept.append(index)
    return kept


def expected_of(data, path):
    """Name, score and corners of the boxes that OpenCV's network and Darknet's rules give."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"), np.float64) / 255
    net = cv2.dnn.readNetFromDarknet(str(data.cfg), str(data.weights))
    blob = darknets_resize(pixels, 416).transpose(2, 0, 1)[None].astype(np.float32)
    net.setInput(np.ascontiguousarray(blob))
    rows = np.concatenate(net.forward(net.getUnconnectedOutLayersNames()))
    rows = rows[rows[:, 4] > 0.25].astype(np.float64)
    height, width, _ = pixels.shape
    expected = []
    for class_id, name in enumerate(data.names.read_text().split("\n")[:80]):
        scores = rows[:, 5 + class_id]
        sure = scores > 0.25
        boxes, scores = rows[sure, :4], scores[sure]
        for index in darknets_suppression(boxes, scores, 0.45):
            x, y, w, h = boxes[index]
            corners = np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
            expected.append((name, scores[index], corners * [width, height, width, height]))
    return sorted(expected, key=lambda detection: -detection[1])


@pytest.fixture(scope="module")
def demo_files():
    try:
        return _demo_data.demo_data()
    except _demo_data.DemoDataError as error:
        pytest.skip(str(error))


@pytest.mark.slow
def test_demo_detects_what_darknet_detects(tmp_path, capsys, demo_files):
    assert cli.main(["demo", "-o", str(tmp_path / "out")]) == 0
    output = capsys.readouterr().out
    assert "loaded 21 layers, 6,062,814 floats, 24,251,276 bytes" in output
    for path in demo_files:
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    for picture in (demo_files.bus, demo_files.zidane):
        expected = expected_of(demo_files, picture)
        assert len(expected) >= 2
        drawing = tmp_path / "out" / "boxes" / picture.name
        _, _, after = output.partition(f"\n{picture.name} -> {drawing}\n")
        printed = [
            re.fullmatch(r"(.+?) +([\d.]+) +\((-?\d+), (-?\d+)\)-\((-?\d+), (-?\d+)\)", line)
            for line in after.split("\n\n")[0].strip().split("\n")
        ]
        assert len(printed) == len(expected)
        for line, (name, score, corners) in zip(printed, expected, strict=True):
            assert line[1] == name
            assert float(line[2]) == pytest.approx(score, abs=0.006)
            np.testing.assert_allclose(
                [int(coordinate) for coordinate in line.groups()[2:]], corners, atol=0.6
            )
        with Image.open(picture) as before, Image.open(drawing) as drawn:
            assert drawn.size == before.size
            undrawn, with_boxes = (
                np.asarray(image.convert("RGB"), int) for image in (before, drawn)
            )
            changed = np.abs(undrawn - with_boxes).max(axis=2) > 64
            assert 0.002 < changed.mean() < 0.2


@pytest.mark.parametrize("arguments", [["inspect"], ["check", "--cfg", "yolov4-tiny"]])
def test_a_file_name_with_a_line_feed_begins_no_other_message(arguments, capsys):
    assert cli.main([*arguments, "a\nyolotf: all is well"]) == 2
    printed = capsys.readouterr()
    assert "\nyolotf: all is well" not in printed.out + printed.err
    assert "no such file" in printed.out + printed.err
