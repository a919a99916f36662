"""Loading while others hold, read or write the same variables, or change the file."""

import collections
import contextlib
import itertools
import json
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import yolotf
from support import load_helpers as loading
from support import weights_files
from support.cfgs import conv
from support.load_helpers import EVERYTHING, PLAIN, build, content
from yolotf.models.variables import plain
from yolotf.weights import layout

LARGE = loading.NET + conv(256, 1) + conv(512, 3, batch_normalize=1, activation="leaky")
"""1.2 million floats: a load takes milliseconds, long enough to be looked at in the middle."""


def constant_file(path, value, text=LARGE):
    """A file of one number, moved into place at once."""
    floats = np.full(layout.floats(yolotf.parse_cfg(text)), value, np.float32)
    new = path.with_suffix(".new")
    weights_files.write(new, floats, header=weights_files.header(int(value)))
    new.replace(path)
    return path


def variables(model):
    return [plain(weight) for weight in model.weights]


@contextlib.contextmanager
def running(*works):
    """Runs each function repeatedly in its own thread; raises here what a thread raises."""
    stop, raised = threading.Event(), []

    def loop(work):
        try:
            while not stop.is_set():
                work()
        except BaseException as error:
            raised.append(error)
            stop.set()

    # Daemons: a test that finds a deadlock still ends.
    threads = [threading.Thread(target=loop, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield stop
    finally:
        stop.set()
        end = time.monotonic() + 30
        for thread in threads:
            thread.join(max(0, end - time.monotonic()))
    if raised:
        raise raised[0]
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"


# Values that are still held


HOLDS = {
    "read_value": lambda v: (v.read_value(), np.asarray),
    "identity": lambda v: (tf.identity(v), np.asarray),
    "numpy": lambda v: (v.numpy(), np.asarray),
    "numpy view of a tensor": lambda v: (np.asarray(memoryview(v.read_value())), np.asarray),
    "slice": lambda v: (v.read_value()[:1], np.asarray),
    "dlpack": lambda v: (np.from_dlpack(v.read_value()), np.asarray),
    "copy of the variable": lambda v: (tf.Variable(v), lambda copy: copy.numpy()),
}


@pytest.mark.slow
@pytest.mark.parametrize("hold", HOLDS)
def test_values_read_before_a_load_keep_their_numbers(tmp_path, path_taken, hold):
    if hold == "dlpack" and not hasattr(tf.zeros(1), "__dlpack__"):
        pytest.skip("tensors of this TensorFlow do not speak DLPack")
    model = build(EVERYTHING)
    loading.scramble(model)
    before = loading.snapshot(model)
    held_values = [HOLDS[hold](variable) for variable in variables(model)]
    path = tmp_path / "a.weights"
    for seed in (1, 2):
        path.write_bytes(content(EVERYTHING, seed))
        yolotf.load_darknet_weights(model, path)
        for (value, read), old in zip(held_values, before.values(), strict=True):
            now = loading.bits(read(value))
            np.testing.assert_array_equal(now, old[: len(now)])
    fresh = build(EVERYTHING)
    yolotf.load_darknet_weights(fresh, path)
    assert loading.same(loading.snapshot(model), loading.snapshot(fresh))


@pytest.mark.slow
def test_arrays_that_variables_were_made_from_keep_their_numbers(tmp_path, path_taken):
    model = build(EVERYTHING)
    path = tmp_path / "a.weights"
    path.write_bytes(content(EVERYTHING))
    sources = []
    for index, variable in enumerate(variables(model)):
        # Aligned memory is what TensorFlow would take over without a copy.
        size = int(np.prod(variable.shape))
        memory = np.zeros(4 * size + 64, np.uint8)
        start = -memory.ctypes.data % 64
        array = memory[start : start + 4 * size].view(np.float32).reshape(variable.shape)
        match index % 4:
            case 0:
                source = tf.constant(array)
                variable.assign(source)
            case 1:
                source = array
                tf.raw_ops.AssignVariableOp(resource=variable.handle, value=array)
            case 2:
                source = array
                variable.assign(tf.experimental.dlpack.from_dlpack(array.__dlpack__()))
            case _:
                source = tf.Variable(array)
                variable.assign(source)
        sources.append(source)
    yolotf.load_darknet_weights(model, path)
    for source in sources:
        assert not np.any(source.numpy() if hasattr(source, "numpy") else source)
    fresh = build(EVERYTHING)
    yolotf.load_darknet_weights(fresh, path)
    assert loading.same(loading.snapshot(model), loading.snapshot(fresh))


def test_variables_that_share_one_buffer_get_their_own(tmp_path, path_taken):
    model = build(EVERYTHING)
    norm = model.get_layer("conv_3_bn")
    gamma, beta = plain(norm.gamma), plain(norm.beta)
    gamma.assign(beta.read_value())
    path = tmp_path / "a.weights"
    path.write_bytes(content(EVERYTHING))
    yolotf.load_darknet_weights(model, path)
    fresh = build(EVERYTHING)
    yolotf.load_darknet_weights(fresh, path)
    assert loading.same(loading.snapshot(model), loading.snapshot(fresh))


# Readers and writers in other threads


@pytest.mark.slow
def test_readers_never_see_half_a_load(tmp_path, path_taken):
    """Every load writes one number everywhere, a higher one each time.

    Within a variable all must be equal. The op writes while it holds all variables: what is read
    later cannot be older.
    """
    model = build(LARGE)
    path = constant_file(tmp_path / "a.weights", 1)
    yolotf.load_darknet_weights(model, path)
    seen = set()

    def read(order, how):
        newest = 0
        for variable in order:
            values = np.asarray(how(variable))
            value = values.flat[0]
            assert (values == value).all(), f"{variable.name} has {np.unique(values)}"
            if path_taken == "op":
                assert value >= newest, f"{variable.name} has {value} after {newest} was read"
            newest = value
            seen.add(float(value))

    forth = variables(model)
    total = tf.function(lambda: [tf.identity(variable) for variable in forth])

    def read_in_a_graph():
        for values in total():
            assert len(np.unique(values)) == 1

    loads = 1
    with running(
        lambda: read(forth, lambda variable: variable.numpy()),
        lambda: read(forth[::-1], lambda variable: variable.read_value()),
        read_in_a_graph,
    ) as stop:
        end = time.monotonic() + 60
        while time.monotonic() < end and not stop.is_set():
            if loads >= 100 and len(seen) > 10:
                break
            loads += 1
            yolotf.load_darknet_weights(model, constant_file(path, loads))
    assert loads >= 100
    assert len(seen) > 10
    assert all((np.asarray(variable) == loads).all() for variable in forth)


@pytest.mark.slow
def test_loads_and_optimizers_do_not_deadlock(tmp_path, path_taken):
    """Both lock several variables; in different orders each could wait for the other's."""
    model = build(PLAIN)
    path = constant_file(tmp_path / "a.weights", 3, PLAIN)
    norm = model.get_layer("conv_0_bn")
    vectors = [
        plain(variable)
        for variable in (norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance)
    ]
    counts = collections.Counter()

    def momentum():
        """Locks two variables and changes neither."""
        for variable, accumulator in itertools.permutations(vectors, 2):
            tf.raw_ops.ResourceApplyMomentum(
                var=variable.handle,
                accum=accumulator.handle,
                lr=0.0,
                grad=tf.zeros(16),
                momentum=1.0,
                use_locking=True,
            )
        counts["momentum"] += 1

    def add():
        vectors[0].assign_add(tf.zeros(16))
        counts["add"] += 1

    def load():
        yolotf.load_darknet_weights(model, path)
        counts["load"] += 1

    load()
    with running(momentum, momentum, add, load, load) as stop:
        end = time.monotonic() + 60
        while min(counts["momentum"], counts["add"], counts["load"]) < 250:
            if time.monotonic() > end or stop.is_set():
                break
            time.sleep(0.02)
    assert min(counts["momentum"], counts["add"], counts["load"]) >= 250, counts
    assert all((np.asarray(variable) == 3).all() for variable in variables(model))


@pytest.mark.slow
def test_loads_into_several_models_at_once(tmp_path, path_taken):
    models = [build(EVERYTHING) for _ in range(3)]
    paths = [tmp_path / f"{seed}.weights" for seed in range(3)]
    for seed, path in enumerate(paths):
        path.write_bytes(content(EVERYTHING, seed))
    counts = [0] * 3

    def work(index):
        def run():
            yolotf.load_darknet_weights(models[index], paths[index])
            counts[index] += 1

        return run

    with running(*map(work, range(3))) as stop:
        end = time.monotonic() + 30
        while min(counts) < 20 and time.monotonic() < end and not stop.is_set():
            time.sleep(0.02)
    snapshots = [loading.snapshot(model) for model in models]
    for path, values in zip(paths, snapshots, strict=True):
        fresh = build(EVERYTHING)
        yolotf.load_darknet_weights(fresh, path)
        assert loading.same(values, loading.snapshot(fresh))
    assert not loading.same(snapshots[0], snapshots[1])


# The file changes meanwhile


def test_no_descriptor_and_no_lease_is_left_behind(tmp_path, path_taken):
    model = build(PLAIN)
    path = tmp_path / "a.weights"
    data = content(PLAIN)

    def open_files():
        return sorted(Path("/proc/self/fd").iterdir())

    for round_number in range(3):
        for broken in (data, data[:-8], data[:10], data.replace(data[212:216], b"\xff" * 4)):
            path.write_bytes(broken)
            with contextlib.suppress(yolotf.WeightsMismatch):
                yolotf.load_darknet_weights(model, path)
            # With a lease on it this would be refused with EWOULDBLOCK.
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
        if round_number == 0:  # what is opened once and kept
            before = open_files()
    assert open_files() == before


LOADER = """
import collections, json, pathlib, sys, time
import test_load_concurrency, yolotf
from support import load_helpers as loading
from yolotf import errors
from yolotf.weights import native as _native
from yolotf.graphs.folded_network import FoldedNetwork

folder = pathlib.Path(sys.argv[1])
model = loading.build(test_load_concurrency.LARGE)
complete = {}
for name in ("a", "b"):
    yolotf.load_darknet_weights(model, folder / name)
    complete[name] = loading.snapshot(model)

def numbers():
    return [variable.numpy().tobytes() for variable in folded.stored.values()]

folded = FoldedNetwork(yolotf.parse_cfg(test_load_concurrency.LARGE))
complete_folded = []
for name in ("a", "b"):
    folded.load(folder / name)
    complete_folded.append(numbers())
print("ready", flush=True)

def no_op():
    raise errors.TensorFlowVersionError("switched off", built="0", running="1")

yolotf.weights.write._warned.add("switched off")
op_library, current = _native.op_library, "b"
counts = {name: collections.Counter() for name in ("held", "opened", "replaced")}
seen = {name: {"a", "b"} for name in counts}
for name in ("held", "opened"):
    seen[name].add("refused")
end = time.monotonic() + 60
turn = 0
# 120 turns, and until everything was seen; on a slow machine that takes longer.
while time.monotonic() < end:
    if turn >= 120 and not any(seen[name] - set(counts[name]) for name in seen):
        break
    turn += 1
    for name, count in counts.items():
        try:
            folded.load(folder / name, contents_disposable=True)
            assert numbers() in complete_folded, "half of a file"
            count["fresh"] += 1
        except (errors.WeightsMismatch, OSError):
            pass
        path_taken = ("op", "portable")[turn % 2]
        _native.op_library = op_library if path_taken == "op" else no_op
        try:
            report = yolotf.load_darknet_weights(model, folder / name)
        except (errors.WeightsMismatch, OSError) as error:
            count["refused"] += 1
            count[type(error).__name__] += 1
            assert loading.same(loading.snapshot(model), complete[current]), error
            continue
        now = loading.snapshot(model)
        current = "a" if loading.same(now, complete["a"]) else "b"
        assert loading.same(now, complete[current]), "neither of the two files"
        assert report.path_taken == path_taken
        # The header is of the same file as the weights.
        assert report.header.seen == {"a": 1, "b": 2}[current]
        count[current] += 1
        count["mapped" if report.mapped else "copied"] += 1
print(json.dumps(counts))
"""


def write_in_pieces(descriptor, data):
    os.ftruncate(descriptor, 0)
    for start in range(0, len(data), 1 << 20):
        os.pwrite(descriptor, data[start : start + (1 << 20)], start)


def pause():
    time.sleep(random.choice([0, 0.001, 0.01, 0.03]))


@pytest.mark.slow
def test_file_that_another_process_keeps_changing(tmp_path):
    """Each load gives one of the two complete files or is refused; no signal ends the process.

    The loads run in a child process. This one keeps the first file open for writing, opens,
    truncates and rewrites the second, and replaces the third.
    """
    files = [constant_file(tmp_path / "a", 1), constant_file(tmp_path / "b", 2)]
    contents = [path.read_bytes() for path in files]
    for name in ("held", "opened", "replaced"):
        (tmp_path / name).write_bytes(contents[1])
    held_file = os.open(tmp_path / "held", os.O_RDWR)
    turns = dict.fromkeys(("held", "opened", "replaced"), 0)

    def next_content(name):
        turns[name] += 1
        pause()
        return contents[turns[name] % 2]

    def hold():
        write_in_pieces(held_file, next_content("held"))

    def open_and_write():
        data = next_content("opened")
        descriptor = os.open(tmp_path / "opened", os.O_WRONLY)
        write_in_pieces(descriptor, data)
        os.close(descriptor)

    def replace():
        (tmp_path / "new").write_bytes(next_content("replaced"))
        if turns["replaced"] % 5 == 0:
            (tmp_path / "replaced").unlink()
        (tmp_path / "new").replace(tmp_path / "replaced")

    loader = subprocess.Popen(
        [sys.executable, "-c", LOADER, str(tmp_path)],
        env={
            **os.environ,
            "TF_CPP_MIN_LOG_LEVEL": "2",
            "PYTHONPATH": os.pathsep.join(map(str, loading.PATHS)),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert loader.stdout.readline() == "ready\n", loader.stderr.read()
        with running(hold, open_and_write, replace):
            printed, complaints = loader.communicate(timeout=120)
    finally:
        loader.kill()
        os.close(held_file)
    assert loader.returncode == 0, complaints
    counts = json.loads(printed)
    for name, count in counts.items():
        tried = count["a"] + count["b"] + count.get("refused", 0)
        assert tried >= 120, counts
        assert count["fresh"] > 10, counts
        assert turns[name] > 20, turns
    # Writes into both are caught midway, and a file open for writing is never mapped.
    assert counts["held"]["refused"] > 0, counts
    assert counts["opened"]["refused"] > 0, counts
    assert "mapped" not in counts["held"]
