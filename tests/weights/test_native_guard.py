"""What is loaded and when: no TensorFlow without need, no op that was built for another one."""

import json
import warnings
from pathlib import Path

import load_helpers as loading
import numpy_loader
import pytest
import tensorflow as tf
from load_helpers import EVERYTHING, build, content, same, scramble, snapshot

import yolotf
from yolotf import _core, errors
from yolotf.weights import native as _native
from yolotf.weights import write as writing

REBUILD = (
    "rebuild it with: pip install --force-reinstall --no-deps --no-cache-dir --no-build-isolation "
    "yolotf"
)

# Imports

IMPORTS = """
import importlib, json, sys
heavy = {}
for name in sys.argv[1:]:
    importlib.import_module(name)
    heavy[name] = sorted({"tensorflow", "keras", "tf_keras"} & set(sys.modules))
print(json.dumps(heavy))
"""

LIGHT = (
    *(
        "yolotf",
        "yolotf.errors",
        "yolotf.darknet.cfg",
        "yolotf.darknet.stock",
        "yolotf.weights.layout",
    ),
    *(
        "yolotf._core",
        "yolotf.weights.native",
        "yolotf.loading.load",
        "yolotf.diagnosis",
        "yolotf.cli",
    ),
)


def test_importing_loads_neither_tensorflow_nor_keras():
    assert json.loads(loading.run_python(IMPORTS, *LIGHT)) == {name: [] for name in LIGHT}


def test_parsing_planning_and_diagnosing_load_neither(tmp_path):
    code = """
import sys, yolotf
from yolotf.weights import layout
network = yolotf.network("yolov4-tiny", classes=3)
assert yolotf.parse_cfg(network.to_cfg()).heads
assert layout.floats(network) > 1e6
with open(sys.argv[1], "wb") as file:
    file.write(bytes(1000))
print(yolotf.diagnose(sys.argv[1], network))
print({"tensorflow", "keras", "tf_keras"} & set(sys.modules) or "light")
"""
    printed = loading.run_python(code, str(tmp_path / "a.weights"))
    assert printed.splitlines()[-1] == "light"


# The version


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "a.weights"
    path.write_bytes(content(EVERYTHING))
    return path


@pytest.fixture
def fresh(monkeypatch):
    """As in a process that has loaded nothing yet."""
    _native.op_library.cache_clear()
    monkeypatch.setattr(writing, "_warned", set())
    yield
    _native.op_library.cache_clear()


def loads_right(weights):
    """Loads three times; the path taken, and what was warned of."""
    model = build(EVERYTHING)
    numpy_loader.load(model, EVERYTHING, weights.read_bytes())
    expected = snapshot(model)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        paths = set()
        for _ in range(3):
            scramble(model)
            paths.add(yolotf.load_darknet_weights(model, weights).path_taken)
            assert same(snapshot(model), expected)
    assert all(one.category is RuntimeWarning for one in caught)
    (path_taken,) = paths
    return path_taken, [str(one.message) for one in caught]


@pytest.mark.parametrize("built", ["2.20.1", "3.21.0", "2.2.0", "1.15.5"])
def test_an_op_of_another_tensorflow_is_not_even_loaded(weights, fresh, monkeypatch, built):
    monkeypatch.setattr(_core, "TENSORFLOW_VERSION", built)
    monkeypatch.setattr(tf, "__version__", "2.21.0")
    monkeypatch.setattr(tf, "load_op_library", lambda path: pytest.fail("loaded"))
    assert loads_right(weights) == (
        "portable",
        [
            f"yolotf's op was built for TensorFlow {built}, this is 2.21.0; {REBUILD}; loading "
            "without it"
        ],
    )
    with pytest.raises(errors.TensorFlowVersionError) as caught:
        _native.op_library()
    assert (caught.value.built, caught.value.running) == (built, "2.21.0")
    assert isinstance(caught.value, ImportError)


@pytest.mark.parametrize("running", ["2.21.99", "2.21.0-rc1", "2.21.0.post1"])
def test_another_patch_of_the_same_minor_is_fine(weights, fresh, monkeypatch, running):
    monkeypatch.setattr(_core, "TENSORFLOW_VERSION", "2.21.0")
    monkeypatch.setattr(tf, "__version__", running)
    assert loads_right(weights) == ("op", [])


@pytest.mark.parametrize("what", ["missing", "no library", "a symbol of another TensorFlow"])
def test_an_op_that_does_not_load_is_done_without(weights, fresh, monkeypatch, tmp_path, what):
    library = (Path(_core.__file__).parent / "_op.so").read_bytes()
    copy = tmp_path / "yolotf/_op.so"
    copy.parent.mkdir()
    if what == "no library":
        copy.write_bytes(b"no library at all" * 1000)
    elif what != "missing":
        assert library.count(b"OpKernelContext") > 1
        copy.write_bytes(library.replace(b"OpKernelContext", b"OpKernelContexT"))
    monkeypatch.setattr(_core, "__file__", str(copy.parent / "_core.so"))
    built, running = _core.TENSORFLOW_VERSION, tf.__version__
    path_taken, warned = loads_right(weights)
    assert path_taken == "portable"
    assert warned == [
        f"yolotf's op was built for TensorFlow {built}, this is {running}; {REBUILD}; loading "
        "without it"
    ]


def test_with_warnings_as_errors_nothing_is_written(weights, fresh, monkeypatch):
    monkeypatch.setattr(_core, "TENSORFLOW_VERSION", "2.20.1")
    model = build(EVERYTHING)
    scramble(model)
    before = snapshot(model)
    with pytest.raises(RuntimeWarning, match=r"built for TensorFlow 2\.20\.1"):
        yolotf.load_darknet_weights(model, weights)
    assert same(snapshot(model), before)


# The other Keras

LEGACY = """
import sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import load_helpers as loading, numpy_loader, yolotf
from yolotf import errors
from yolotf.weights import native as _native
from yolotf.models.variables import plain
from yolotf.weights import write
from yolotf.weights import write

def no_op():
    raise errors.TensorFlowVersionError("switched off", built="0", running="1")

data = open(sys.argv[1], "rb").read()
op_library = _native.op_library
write._warned.add("switched off")
for dtype in ("float32", "mixed_float16"):
    model = loading.build(loading.EVERYTHING, dtype=dtype)
    assert type(model).__module__.startswith("tf_keras."), type(model).__module__
    numpy_loader.load(model, loading.EVERYTHING, data)
    expected = loading.snapshot(model)
    assert len(expected) == 40
    for path_taken in ("op", "portable"):
        _native.op_library = op_library if path_taken == "op" else no_op
        loading.scramble(model)
        report = yolotf.load_darknet_weights(model, sys.argv[1])
        assert report.path_taken == path_taken
        assert loading.same(loading.snapshot(model), expected)

    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        model = loading.build(loading.EVERYTHING, dtype=dtype)
    report = yolotf.load_darknet_weights(model, sys.argv[1])
    assert report.variables == 80
    for name, weight in zip(expected, model.weights, strict=True):
        replicas = write.replicas(plain(weight))
        assert len({replica.device for replica in replicas}) == 2
        for replica in replicas:
            assert (loading.bits(replica.numpy()) == expected[name]).all(), name
print("loaded")
"""


def test_tf_keras_models_load_too(weights):
    printed = loading.run_python(LEGACY, str(weights), TF_USE_LEGACY_KERAS="1")
    assert printed.splitlines()[-1] == "loaded"
