"""Networks that need more memory than there is are refused in one sentence."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import yolotf
from support import messages, weights_files
from support.cfgs import conv, maxpool, net, route, shortcut, yolo
from yolotf import _runtime
from yolotf.cli import main
from yolotf.darknet.cfg import parse_cfg
from yolotf.errors import OutOfMemoryError, TensorFlowError
from yolotf.graphs import memory_budget, tf_errors
from yolotf.inference.function_builder import build_function
from yolotf.runtime import arrays, tensorflow_library
from yolotf.runtime import network as runtime_network
from yolotf.runtime.graph import Operations
from yolotf.runtime.network import RuntimeNetwork

WIDE = "10,14, 23,27, 37000,58000"
HUGE = net(98_304) + conv(32, 3) + conv(3) + maxpool(32_768, 32_768) + conv(18) + yolo(anchors=WIDE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # The picture, and what enters and leaves the largest section, by hand.
        (net(8) + conv(4) + conv(2), 8 * 8 * (3 + 4 + 2)),
        (net(8) + conv(4) + maxpool(2) + conv(1), 8 * 8 * (3 + 4) + 4 * 4 * 4),
        # Joined: both are there while the last section reads them.
        (net(8) + conv(4) + conv(5) + route(-1, -2) + conv(1), 8 * 8 * (3 + 9 + 1)),
        # A sum may be in the place of what it adds.
        (net(8) + conv(4) + conv(4) + shortcut(-2) + conv(1), 8 * 8 * (3 + 4 + 4)),
        # Joined of joined holds the same again.
        (net(8) + conv(4) + route(-1) + route(-1, -2) + conv(1), 8 * 8 * (3 + 4 + 1)),
    ],
)
def test_live_floats_counts_the_arrays_alive_at_once(text, expected):
    assert memory_budget.peak_floats(parse_cfg(text)) == expected


def test_a_network_too_large_for_the_machine_is_refused_everywhere(tmp_path, monkeypatch):
    monkeypatch.setattr(memory_budget, "allowed_bytes", lambda: 6_000_000_000)
    network = parse_cfg(HUGE)
    for door in (yolotf.Detector, build_function):
        with messages.refused(OutOfMemoryError, code="out-of-memory") as error:
            door(network, tmp_path / "a.weights")
        assert error.value.needed == 4 * 98_304**2 * (3 + 32 + 3)
        assert (error.value.allowed, error.value.batch) == (6_000_000_000, 1)
        assert error.value.input_size == (98_304, 98_304)
        assert isinstance(error.value, MemoryError)


def test_a_run_beyond_the_remaining_memory_is_refused(monkeypatch):
    """The last check: the limit was unknown before, or other runs have taken the rest."""
    network = parse_cfg(net(8) + conv(4) + conv(2))
    runs = memory_budget.RunMemory.of(network, [(2, 5)])
    monkeypatch.setattr(memory_budget, "_obtainable", lambda size: size < 4 * 8 * 8 * 6 * 2)
    monkeypatch.setattr(memory_budget, "allowed_bytes", lambda: 5_000)
    monkeypatch.setattr(memory_budget, "taken_bytes", lambda: 4_000)
    with runs.reserve(1):
        pass
    with messages.refused(OutOfMemoryError, code="out-of-memory") as error, runs.reserve(2):
        pass
    assert (error.value.batch, error.value.needed, error.value.taken) == (2, 4608, 4000)


def test_a_run_waits_until_others_release_memory(monkeypatch):
    monkeypatch.setattr(memory_budget, "_obtainable", lambda size: size <= 100)
    admission = memory_budget._Admission()
    assert admission.enter(80)
    entered = []
    other = threading.Thread(target=lambda: entered.append(admission.enter(70)))
    other.start()
    assert entered == []
    admission.leave(80)
    other.join(60)
    assert entered == [True]
    admission.leave(70)
    assert not admission.enter(101)


@pytest.mark.slow
def test_a_limited_process_refuses_instead_of_crashing(tmp_path):
    """As `ulimit -v` does it; TensorFlow 2.21 ends such a process by a signal."""
    text = net(4096) + conv(64, 3) + conv(64, 3) + conv(18) + yolo(anchors=WIDE)
    (tmp_path / "a.cfg").write_text(text)
    floats = 64 * 3 * 9 + 64 + 64 * 64 * 9 + 64 + 18 * 64 + 18
    weights_files.write(tmp_path / "a.weights", np.full(floats, 0.01))
    code = """
import resource, sys
import numpy as np
import yolotf
from yolotf.graphs import memory
memory.allowed_bytes = lambda: None  # past the first door
detector = yolotf.Detector(sys.argv[1], sys.argv[2])
limit = memory.taken_bytes() + 2_000_000_000
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    detector(np.zeros((8, 8, 3), np.uint8))
except yolotf.YolotfError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.cfg"), str(tmp_path / "a.weights")],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(yolotf.__file__).parents[1],
        env={**os.environ},
    )
    assert done.returncode == 0, done.stderr
    messages.said(done.stdout, hide=r"[\d.]+(?= GB)(?<!8\.8)")


def test_detect_command_reports_missing_memory_in_one_line(tmp_path, capsys):
    (tmp_path / "a.cfg").write_text(HUGE)
    (tmp_path / "a.weights").write_bytes(bytes(40))
    (tmp_path / "a.jpg").write_bytes(b"x")
    arguments = ["--cfg", tmp_path / "a.cfg", "--weights", tmp_path / "a.weights"]
    code = main(["detect", *map(str, arguments), str(tmp_path / "a.jpg"), "--json"])
    assert code == 2
    messages.said(capsys.readouterr().err, hide=r"(?<=may use )[\d.]+ \wB")


@pytest.mark.slow
def test_tensorflow_allocation_failures_are_explained():
    tensorflow_library.load()
    ops = Operations()
    x = ops.placeholder([1])
    tiled = ops.Tile(input=x, multiples=[2**20])
    wide = ops.Tile(input=ops.Reshape(tensor=tiled, shape=[1, -1]), multiples=[2**31 - 1, 1])
    session = _runtime.Session(ops.graph, runtime_network._config(1, optimize=False))
    call = runtime_network._call(session, ops, [x], [ops.Max(input=wide, axis=[0, 1])])
    network = parse_cfg(net(8) + conv(4))
    # A tensor that TensorFlow does not allocate, on any machine: 2**53 bytes.
    with (
        messages.refused(OutOfMemoryError, tensorflow_code="RESOURCE_EXHAUSTED", batch=2),
        tf_errors.translate_errors(network, 2),
    ):
        call.run([np.zeros(1, np.float32)])


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (
            "OOM when allocating tensor with shape[2,1000,1000,32] and type float on "
            "/job:localhost/replica:0/task:0/device:CPU:0 by allocator cpu\n\t "
            "[[{{node Conv2D_1}}]]\nHint: If you want to see a list ...",
            "RESOURCE_EXHAUSTED",
        ),
        (
            "{{function_node __wrapped__Add_device_/job:a}} Incompatible shapes: [2] vs. [3] "
            "[Op:AddV2] name: \n\t [[x]]",
            "INVALID_ARGUMENT",
        ),
        ("", "INTERNAL"),
    ],
    ids=["memory", "shapes", "nothing said"],
)
def test_tensorflow_errors_become_one_line(text, code, tmp_path):
    (tmp_path / "a.cfg").write_text(net(8) + conv(4))
    network = parse_cfg(tmp_path / "a.cfg")
    error = tf_errors.refusal(text, code, network, 2)
    messages.said(str(error))
    assert error.facts["said"] == text
    assert error.input_size == (8, 8)
    assert isinstance(error, OutOfMemoryError if code == "RESOURCE_EXHAUSTED" else TensorFlowError)


def test_errors_of_python_tensorflow_are_explained():
    network = parse_cfg(net(8) + conv(4))
    one_run = tf_errors.translate_errors(network, 1)
    with messages.refused(TensorFlowError, hide=r"(?s)(?<=8x8: ).*") as error, one_run:
        tf.raw_ops.Reshape(tensor=tf.zeros([3]), shape=[2])
    assert error.value.tensorflow_code == "INVALID_ARGUMENT"
    ours = OutOfMemoryError("an image's copy", source=None)
    with (
        pytest.raises(OutOfMemoryError, match="an image's copy"),
        tf_errors.translate_errors(network, 1),
    ):
        raise ours
    with pytest.raises(KeyError), tf_errors.translate_errors(network, 1):
        raise KeyError("not TensorFlow's")
    with (
        messages.refused(OutOfMemoryError),
        tf_errors.translate_errors(network, 1),
    ):
        raise MemoryError("std::bad_alloc")


def test_weights_without_memory_are_refused(monkeypatch):
    def refuse(*_, **__):
        raise OSError(12, "Cannot allocate memory")

    described = parse_cfg(net(8) + conv(4))
    ours = RuntimeNetwork(described)
    monkeypatch.setattr(arrays.mmap, "mmap", refuse)
    with (
        messages.refused(OutOfMemoryError),
        tf_errors.translate_errors(described),
    ):
        arrays.allocate(ours.graph.shapes)


def test_more_threads_than_any_machine_has_are_refused():
    with messages.refused(ValueError):
        yolotf.Detector("yolov4-tiny", "a.weights", threads=5000)
