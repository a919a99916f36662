"""Commands on systems without a folder for temporary files or without a home folder."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from PIL import Image

import yolotf
from support import helpers
from support.cfgs import conv, net, yolo
from support.messages import refused, reported, said

CFG = net(32) + conv(18) + yolo(1, "4,4, 8,8, 16,16")

RUN = """
import os, sys, tempfile
{spoil}
from yolotf.__main__ import main
sys.argv[0] = "yolotf"
sys.exit(main())
"""
NO_TEMPORARY_FOLDER = """
def nowhere(*arguments, **options):
    raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")
tempfile.gettempdir = tempfile._get_default_tempdir = nowhere
tempfile.tempdir = None
"""
NOWHERE_TO_WRITE = """
tempfile._candidate_tempdir_list = lambda: ["/nowhere"]
"""
NO_HOME = """
import pwd
def unknown(number):
    raise KeyError(f"getpwuid(): uid not found: {number}")
pwd.getpwuid = unknown
os.environ.pop("HOME", None)
"""
CONVERT = """
import sys, tempfile
{spoil}
from yolotf.cli import commands
for output in sys.argv[1:]:
    code = commands.main(["convert", "a.weights", "--cfg", "a.cfg", "-o", output])
    assert code == 0, output
"""
DETECTOR = """
import os, sys, tempfile
{spoil}
import yolotf
detector = yolotf.Detector(sys.argv[1], sys.argv[2], class_names=["a"])
detections = detector(sys.argv[3])
detections.draw(sys.argv[3])
print(len(detections))
"""


@pytest.fixture
def files(tmp_path):
    (tmp_path / "a.cfg").write_text(CFG)
    helpers.write_weights(tmp_path / "a.weights", yolotf.parse_cfg(CFG))
    noise = np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    return tmp_path


def run(code, spoil, *arguments, **options):
    code = textwrap.dedent(code).format(spoil=spoil)
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory takes its place on Linux alone")
@pytest.mark.parametrize("spoil", [NO_TEMPORARY_FOLDER, NO_HOME], ids=["temporary", "home"])
def test_detect_and_doctor(spoil, files):
    paths = (files / "a.cfg", files / "a.weights", files / "a.png")
    done = run(DETECTOR, spoil, *paths, cwd=files)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    arguments = ["detect", paths[2], "--cfg", paths[0], "--weights", paths[1]]
    done = run(RUN, spoil, *arguments, "-o", files / "drawn", cwd=files)
    assert done.returncode == 0, done.stderr
    assert (files / "drawn/a.png").is_file()
    done = run(RUN, spoil, "doctor", "--json", cwd=files)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("{")


@pytest.mark.slow
def test_convert_needs_no_folder_for_temporary_files(files):
    outputs = ["a.keras", "b.weights.h5", "c.h5", "d.tflite", "e.safetensors", "f"]
    done = run(CONVERT, NOWHERE_TO_WRITE, *outputs, cwd=files)
    assert done.returncode == 0, done.stderr
    assert all((files / output).exists() for output in outputs)
    made = {path.name for path in files.iterdir()}
    assert made == {"a.cfg", "a.weights", "a.png", *outputs}


@pytest.mark.slow
def test_command_that_needs_temporary_files_is_refused_without_a_folder(files):
    (files / "a.keras").write_bytes(b"PK")
    arguments = ["check", "a.weights", "--model", "a.keras"]
    done = run(RUN, NOWHERE_TO_WRITE, *arguments, cwd=files)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    said(reported(done.stderr))


def test_cache_of_a_user_without_a_home_is_private(tmp_path, monkeypatch):
    import pwd
    import tempfile

    from yolotf.cli import demo_data

    def unknown(number):
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "XDG_CACHE_HOME", "YOLOTF_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = demo_data.cache_folder()
    assert folder == tmp_path / f"yolotf-{os.getuid()}"
    folder.mkdir(mode=0o700)
    folder.chmod(0o777)  # anybody may have put files there
    with refused(PermissionError, hide=r"(?<=yolotf-)\d+"):
        demo_data.demo_data()


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.08, 0.15, 0.25, 0.4])
def test_ctrl_c_at_the_start_ends_without_a_traceback(seconds, files):
    """Sends Ctrl-C after Python itself has started; before that no handler can be in place."""
    code = (
        "import sys\nfrom yolotf.__main__ import main\nprint('begun', flush=True)\nsys.exit(main())"
    )
    arguments = ["check", "--cfg", str(files / "a.cfg"), str(files / "a.weights")]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "begun\n"
    time.sleep(seconds - 0.08)
    process.send_signal(signal.SIGINT)
    output, error = process.communicate(timeout=60)
    # The signal ends the process if it comes while Python ends; a shell calls that 130, too.
    assert process.returncode in (130, 0, -signal.SIGINT), (output, error)
    assert "Traceback" not in error
    if seconds == 0.08:
        assert process.returncode == 130
