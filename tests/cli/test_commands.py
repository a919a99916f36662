"""Commands in their own process: closed streams, missing paths, what they print."""

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
from support.messages import reported, said
from yolotf.cli import commands as cli
from yolotf.darknet import stock as networks


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "tiny.weights"
    helpers.write_weights(path, networks.network("yolov4-tiny", classes=1), scale=0.1)
    return path


def run(*arguments, redirect="", **options):
    """Runs `python -m yolotf` in a shell, which can close a stream."""
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


def test_closed_output_is_an_error(weights):
    done = run("inspect", weights, redirect=">&-")
    assert (done.returncode, done.stdout) == (2, "")
    said(done.stderr)


def test_complaints_do_not_go_to_stdout_when_stderr_is_closed(tmp_path):
    done = run("inspect", tmp_path / "none.weights", redirect="2>&-")
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_is_one_line(weights):
    done = run("inspect", weights, redirect=">/dev/full")
    assert done.returncode == 2
    said(done.stderr)


def test_json_of_a_missing_file_is_an_object_with_the_error(tmp_path):
    path = tmp_path / "none.weights"
    done = run("inspect", path, "--json")
    assert done.returncode == 2
    said(done.stderr)
    error = done.stderr.removeprefix("yolotf: ").removesuffix("\n")
    assert json.loads(done.stdout) == {"path": str(path), "error": error}


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["picture", "weights", "names", "model", "convert"])
def test_missing_paths_are_refused_before_tensorflow_is_imported(weights, tmp_path, missing):
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
    said(reported(done.stderr))


@pytest.mark.parametrize("size", ["0", "0x416", "416x0"])
def test_size_of_zero_is_wrong_usage(capsys, size):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["detect", "a.jpg", "--cfg", "yolov4", "--weights", "w", "--size", size])
    assert stopped.value.code == 2
    said(capsys.readouterr().err.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolov8n", "yolov5s", "yolo11n", "yolox"])
def test_network_of_another_framework_is_not_taken_for_a_typo(capsys, weights, name):
    assert cli.main(["check", str(weights), "--cfg", name]) == 2
    printed = capsys.readouterr().err
    assert "did you mean" not in printed
    said(printed)


@pytest.mark.slow
def test_doctor_shows_how_variables_are_written():
    done = run("doctor", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    assert answer["writing"]["path"] == "op"
    assert answer["processor"]["threads_used"] >= 1
    said(answer["detecting"]["path"])
    assert Path(answer["detecting"]["folder"], "libtensorflow_cc.so.2").exists()
    assert {"huge_pages", "read_lease", "cache_folder", "onednn", "tensorflow"} <= set(answer)
    lines = run("doctor").stdout.splitlines()
    assert [line.split("  ")[0].replace(" ", "_") for line in lines] == list(answer)
    assert "TF_ENABLE_ONEDNN_OPTS " in "\n".join(lines)


@pytest.mark.slow
def test_doctor_runs_without_file_leases(monkeypatch, capsys):
    monkeypatch.delattr(fcntl, "F_SETLEASE")  # macOS
    assert cli.main(["doctor", "--json"]) == 0
    lease = json.loads(capsys.readouterr().out)["read_lease"]
    assert lease["granted"] is False
    said(lease["reason"])


@pytest.mark.slow
def test_doctor_shows_the_kernels_of_convolutions(monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    answer = json.loads(run("doctor", "--json").stdout)["onednn"]
    assert answer["kernels"] == "Eigen"
    assert answer["reason"] == "TF_ENABLE_ONEDNN_OPTS=0"
    assert "advice" not in answer


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="oneDNN's limits are those of x86-64")
def test_doctor_shows_that_avx512_is_missing(monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    (line,) = (line for line in run("doctor").stdout.splitlines() if line.startswith("onednn"))
    said(line)


@pytest.mark.slow
def test_export_shows_warnings_of_the_detector(tmp_path):
    path = tmp_path / "three.weights"
    helpers.write_weights(path, networks.network("yolov4-tiny", classes=3), scale=0.1)
    options = ["--cfg", "yolov4-tiny", "--classes", "3", "--size", "32", "-o", tmp_path / "served"]
    done = run("export", path, *options)
    assert done.returncode == 0
    said(reported(done.stderr))


@pytest.mark.parametrize("option", [["--only", "cat"], ["--no-letter-box"], ["--max-boxes", "2"]])
def test_export_refuses_options_that_a_classifier_would_ignore(option, tmp_path, capsys):
    path = tmp_path / "a.weights"
    path.write_bytes(bytes(20))
    given = ["export", str(path), "--cfg", "darknet19", "-o", str(tmp_path / "served")]
    assert cli.main([*given, *option]) == 2
    said(capsys.readouterr().err)
    assert not (tmp_path / "served").exists()
