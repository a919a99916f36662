"""Processes that yolotf starts import nothing from the working folder, whoever put it there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import yolotf
from support import helpers
from support.cfgs import conv, net, yolo
from yolotf.files import python_module

SHADOWING = ("json", "runpy", "numpy", "pip", "tensorflow", "yolotf", "sitecustomize")


@pytest.fixture
def strangers_folder(tmp_path, monkeypatch):
    """The working folder, with modules that would leave a file if they were imported."""
    for name in SHADOWING:
        text = f"open({str(tmp_path / f'ran-{name}')!r}, 'w').close()\nraise SystemExit(3)\n"
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not list(tmp_path.glob("ran-*"))


@pytest.mark.parametrize(("module", "argument"), [("json.tool", "--help"), ("pip", "--version")])
def test_module_comes_from_where_python_finds_it(module, argument, strangers_folder):
    done = subprocess.run(
        python_module.command(module, argument), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.slow
def test_convert_runs_no_code_of_the_working_folder(strangers_folder):
    cfg = net(32) + conv(18) + yolo(1, "4,4, 8,8, 16,16")
    Path("a.cfg").write_text(cfg)
    helpers.write_weights(strangers_folder / "a.weights", yolotf.parse_cfg(cfg))
    script = (
        "import sys; sys.path[:] = filter(None, sys.path); sys.argv[0] = 'yolotf'\n"
        "from yolotf.__main__ import main; sys.exit(main())"
    )
    arguments = ["convert", "a.weights", "--cfg", "a.cfg", "-o", "a.tflite"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert Path("a.tflite").exists()


def test_every_process_is_started_by_this_module():
    package = Path(yolotf.__file__).parent
    users = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if "sys.executable" in path.read_text(encoding="utf-8")
    }
    shows_a_command = "weights/op_library.py"
    assert users - {shows_a_command} == {"files/python_module.py"}
