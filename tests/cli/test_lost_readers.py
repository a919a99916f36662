"""Commands whose standard error or standard output can no longer be written."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import yolotf
from support import helpers
from support.cfgs import conv, net, yolo
from yolotf.cli.commands import main

CFG = net(32) + conv(18) + yolo(1, "4,4, 8,8, 16,16")
NETWORK = ["--cfg", "a.cfg", "--weights", "a.weights"]

pytestmark = pytest.mark.skipif(os.name == "nt", reason="pipes and /dev/full")


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.cfg").write_text(CFG)
    (tmp_path / "a.names").write_text("thing\n")  # a note says so
    helpers.write_weights(tmp_path / "a.weights", yolotf.parse_cfg(CFG))
    noise = np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    for name in "bcd":
        Image.fromarray(noise).save(tmp_path / f"{name}.png")
    return tmp_path


def without_reader():
    """Returns the end of a pipe that nobody reads."""
    read, write = os.pipe()
    os.close(read)
    return os.fdopen(write, "w")


def full():
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    return Path("/dev/full").open("w")


LOST = pytest.mark.parametrize("lost", [without_reader, full])


@LOST
@pytest.mark.parametrize(
    "arguments",
    [
        ["detect", *NETWORK, "b.png", "c.png", "--json", "--coco-json", "out.json"],
        ["convert", "a.weights", "--cfg", "a.cfg", "-o", "out.onnx"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_notes_and_progress_that_nobody_reads_end_no_command(lost, arguments, files, monkeypatch):
    with lost() as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        assert main(arguments) == 0
    assert (files / arguments[-1]).stat().st_size > 0


@LOST
def test_an_error_that_nobody_reads_still_has_its_exit_code(lost, monkeypatch):
    with lost() as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        assert main(["inspect", "none.weights"]) == 2


@pytest.mark.slow
@LOST
def test_a_process_without_a_reader_of_its_standard_error(lost, files):
    command = [sys.executable, "-m", "yolotf.cli", "convert", "a.weights", "--cfg", "a.cfg"]
    with lost() as stream:
        done = subprocess.run([*command, "-o", "out.onnx"], stderr=stream, check=False)
    assert done.returncode == 0
    assert (files / "out.onnx").stat().st_size > 0


@pytest.mark.parametrize("option", ["--coco-json", "-o"])
def test_files_are_written_though_nobody_reads_standard_output(option, files, monkeypatch):
    images = ["b.png", "c.png", "d.png"]
    with without_reader() as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert main(["detect", *NETWORK, *images, "--json", option, "out"]) == 0
    if option == "-o":
        assert sorted(path.name for path in (files / "out").iterdir()) == images
    else:
        listed = json.loads((files / "out.images.json").read_text())["images"]
        assert [image["file_name"] for image in listed] == images


def test_a_mismatch_is_reported_though_nobody_reads_standard_output(files, monkeypatch):
    (files / "a.weights").write_bytes((files / "a.weights").read_bytes()[:-400])
    (files / "page.weights").write_text("<!doctype html><title>Not found</title>")
    for command in (["check", "a.weights", "--cfg", "a.cfg"], ["inspect", "page.weights"]):
        for json_option in ([], ["--json"]):
            with without_reader() as stream:
                monkeypatch.setattr(sys, "stdout", stream)
                assert main([*command, *json_option]) == 1
