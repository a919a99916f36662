"""The commands in a process of their own: closed streams, missing paths, what they print."""

import fcntl
import importlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from support import helpers
from yolotf.cli import commands as cli
from yolotf.darknet import stock as networks


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "tiny.weights"
    helpers.write_weights(path, networks.network("yolov4-tiny", classes=1), scale=0.1)
    return path


def run(*arguments, redirect="", **options):
    """`python -m yolotf` by a shell, which can close a stream."""
    script = f'exec "{sys.executable}" -m yolotf "$@" {redirect}'
    return subprocess.run(
        ["sh", "-c", script, "sh", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def test_every_command_has_a_module_with_arguments():
    for name, _ in cli.COMMANDS.values():
        module = importlib.import_module(f"yolotf.cli.{name}")
        assert callable(module.add_arguments)
        assert callable(module.main)


def test_python_m_yolotf_is_the_command(weights):
    done = run("inspect", weights, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["path"] == str(weights)


def test_a_closed_output_is_said(weights):
    done = run("inspect", weights, redirect=">&-")
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr == "yolotf: standard output is closed; there is nowhere to print the result\n"
    )


def test_complaints_do_not_go_to_stdout_when_stderr_is_closed(tmp_path):
    done = run("inspect", tmp_path / "none.weights", redirect="2>&-")
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_sentence(weights):
    done = run("inspect", weights, redirect=">/dev/full")
    assert (done.returncode, done.stderr) == (2, "yolotf: no space left on device\n")


def test_json_of_a_missing_file_is_an_object_with_the_error(tmp_path):
    path = tmp_path / "none.weights"
    done = run("inspect", path, "--json")
    text = f"{path}: no such file or directory"
    assert (done.returncode, done.stderr) == (2, f"yolotf: {text}\n")
    assert json.loads(done.stdout) == {"path": str(path), "error": text}


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["picture", "weights", "names", "model", "convert"])
def test_missing_paths_are_said_before_tensorflow_is_imported(weights, tmp_path, missing):
    none = tmp_path / "none"
    picture = tmp_path / "picture.png"
    picture.touch()
    network = ("--cfg", "yolov4-tiny", "--classes", "1")
    arguments = {
        "picture": ("detect", none, *network, "--weights", weights),
        "weights": ("detect", picture, *network, "--weights", none),
        "names": ("detect", picture, *network, "--weights", weights, "--names", none),
        "model": ("check", weights, "--model", none),
        "convert": ("convert", none, *network, "-o", tmp_path / "out.keras"),
    }[missing]
    done = run(*arguments, env={**os.environ, "PYTHONPROFILEIMPORTTIME": "1"})
    assert done.returncode == 2
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
    assert not imported & {"tensorflow", "keras"}
    assert f"yolotf: {none}: no such file or directory" in done.stderr


@pytest.mark.parametrize("size", ["0", "0x416", "416x0"])
def test_a_size_of_nothing_is_wrong_usage(capsys, size):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["detect", "a.jpg", "--cfg", "yolov4", "--weights", "w", "--size", size])
    assert stopped.value.code == 2
    assert "width and height are at least 1" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolov8n", "yolov5s", "yolo11n", "yolox"])
def test_a_network_of_another_framework_is_not_taken_for_a_misspelt_one(capsys, weights, name):
    assert cli.main(["check", str(weights), "--cfg", name]) == 2
    said = capsys.readouterr().err
    assert f"{name} is not a Darknet network" in said
    assert "did you mean" not in said


@pytest.mark.slow
def test_the_doctor_tells_what_loads_variables():
    done = run("doctor", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert told["writing"]["path"] == "op"
    assert told["processor"]["threads_used"] >= 1
    assert told["detecting"]["path"] == "TensorFlow's libraries, without its Python"
    assert Path(told["detecting"]["folder"], "libtensorflow_cc.so.2").exists()
    assert {"huge_pages", "read_lease", "cache_folder", "onednn", "tensorflow"} <= set(told)
    lines = run("doctor").stdout.splitlines()
    assert [line.split("  ")[0].replace(" ", "_") for line in lines] == list(told)
    assert "TF_ENABLE_ONEDNN_OPTS " in "\n".join(lines)


@pytest.mark.slow
def test_the_doctor_runs_where_the_system_knows_no_leases(monkeypatch, capsys):
    monkeypatch.delattr(fcntl, "F_SETLEASE")  # macOS
    assert cli.main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["read_lease"] == {
        "granted": False,
        "reason": "this system has no leases; files are read into memory",
    }


@pytest.mark.slow
def test_the_doctor_tells_which_kernels_convolutions_take(monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    told = json.loads(run("doctor", "--json").stdout)["onednn"]
    assert told["kernels"] == "Eigen"
    assert told["reason"] == "TF_ENABLE_ONEDNN_OPTS=0"
    assert "advice" not in told


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="oneDNN's limits are those of x86-64")
def test_the_doctor_tells_that_avx512_is_missing(monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    (line,) = (line for line in run("doctor").stdout.splitlines() if line.startswith("onednn"))
    assert "kernels oneDNN, not fused; reason " in line
    assert (
        "without AVX-512 oneDNN's fused operation is slow; advice TF_ENABLE_ONEDNN_OPTS=0" in line
    )


@pytest.mark.slow
def test_export_shows_what_a_detector_warns_of(tmp_path):
    path = tmp_path / "three.weights"
    helpers.write_weights(path, networks.network("yolov4-tiny", classes=3), scale=0.1)
    options = ["--cfg", "yolov4-tiny", "--classes", "3", "--size", "32", "-o", tmp_path / "served"]
    done = run("export", path, *options)
    assert done.returncode == 0
    assert "note: a file of yolov4-tiny, 3 classes" in done.stderr


@pytest.mark.parametrize("option", [["--only", "cat"], ["--no-letter-box"], ["--max-boxes", "2"]])
def test_export_refuses_what_a_classifier_would_ignore(option, tmp_path, capsys):
    path = tmp_path / "a.weights"
    path.write_bytes(bytes(20))
    given = ["export", str(path), "--cfg", "darknet19", "-o", str(tmp_path / "served")]
    assert cli.main([*given, *option]) == 2
    assert "is for detectors, not classifiers" in capsys.readouterr().err
    assert not (tmp_path / "served").exists()
