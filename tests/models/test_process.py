"""Processes in which a model cannot run: forked too late, or with Keras on another backend."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

from support import helpers, load_helpers
from support.messages import reported, said
from yolotf.errors import KerasBackendError, YolotfError

pytestmark = pytest.mark.slow

PREPARE = """
import os, signal, sys
import numpy as np
import yolotf
network, weights = yolotf.parse_cfg(sys.argv[1]), sys.argv[2]
picture = np.zeros((16, 16, 3), np.uint8)
def in_child(check):
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # TensorFlow would hang
        try:
            check()
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert status == 0, status
def refused():
    for name, late in (
        ("build_model", lambda: yolotf.build_model(network)),
        ("build_model", lambda: yolotf.build_model(network, weights=weights)),
        ("build_function", lambda: yolotf.build_function(network, weights)),
    ):
        try:
            late()
        except yolotf.YolotfError as error:
            assert isinstance(error, RuntimeError)
            assert error.code == "forked-process", error
            assert str(error).startswith(name + ": "), error
            print(error, flush=True)
        else:
            raise AssertionError("not refused")
"""


@pytest.fixture
def files(tmp_path):
    (tmp_path / "some.cfg").write_text(load_helpers.PLAIN)
    (tmp_path / "some.weights").write_bytes(load_helpers.content(load_helpers.PLAIN))
    return tmp_path / "some.cfg", tmp_path / "some.weights"


def run(code, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(helpers.PYTHONPATH), **environment},
        capture_output=True,
        text=True,
        timeout=200,
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no process can be forked here")
def test_process_forked_after_tensorflow_ran_is_refused(files):
    done = run(
        PREPARE
        + """
import tensorflow as tf
def runs():
    yolotf.build_model(network, weights=weights)(picture[None])
    yolotf.build_function(network, weights)(picture[None])
in_child(runs)
tf.matmul(tf.ones((2, 2)), tf.ones((2, 2)))
if sys.platform == "linux":  # where a process that never imported the half of yolotf knows, too
    in_child(refused)
model = yolotf.build_model(network)
function = yolotf.build_function(network, weights)
in_child(refused)
def late_call():
    try:
        function(picture[None])
    except yolotf.YolotfError as error:
        assert error.code == "forked-process", error
        print(error, flush=True)
    else:
        raise AssertionError("not refused")
in_child(late_call)
function(picture[None])
""",
        *files,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for sentence in sorted(set(done.stdout.splitlines())):
        said(sentence)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no process can be forked here")
def test_a_process_forked_after_a_detector_was_made_builds_no_model(files):
    done = run(PREPARE + "yolotf.Detector(network, weights)(picture)\nin_child(refused)\n", *files)
    assert done.returncode == 0, done.stdout + done.stderr


BUILD = """
import json, sys, yolotf
try:
    yolotf.build_model(yolotf.parse_cfg(sys.argv[1]))
except yolotf.YolotfError as error:
    print(json.dumps([type(error).__name__, str(error), "keras" in sys.modules]))
"""


@pytest.mark.parametrize("backend", ["torch", "jax", "no_such"])
def test_another_backend_is_refused_before_keras_looks_for_it(backend, files):
    done = run(BUILD, files[0], KERAS_BACKEND=backend)
    kind, sentence, keras_is_imported = json.loads(done.stdout)
    assert (kind, keras_is_imported) == ("KerasBackendError", False)
    said(sentence)


def test_backend_of_keras_configuration_file_is_refused(files, tmp_path):
    (tmp_path / "keras.json").write_text('{"backend": "jax"}')
    environment = {"KERAS_HOME": str(tmp_path), "KERAS_BACKEND": ""}
    done = run(BUILD, files[0], **environment)
    said(json.loads(done.stdout)[1])
    # The variable is asked first.
    done = run(
        BUILD + "else: print('built')", files[0], **environment | {"KERAS_BACKEND": "tensorflow"}
    )
    assert done.stdout == "built\n"


def test_command_refuses_another_backend_in_one_line(files, tmp_path):
    cfg, weights = map(str, files)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "yolotf", "convert", weights, "--cfg", cfg),
            *("-o", str(tmp_path / "x.keras")),
        ],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(helpers.PYTHONPATH),
            "KERAS_BACKEND": "jax",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    said(reported(done.stderr))
    assert "Traceback" not in done.stderr


def test_backend_error_is_an_import_error_and_a_yolotf_error():
    assert issubclass(KerasBackendError, ImportError)
    assert issubclass(KerasBackendError, YolotfError)
