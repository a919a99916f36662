"""No TensorFlow is imported without need, and no op that was built for another TensorFlow."""

import json
import re
import warnings

import pytest
import tensorflow as tf

import yolotf
from support import load_helpers as loading
from support import numpy_loader
from support.load_helpers import EVERYTHING, build, content, same, scramble, snapshot
from support.messages import refused, said
from yolotf import _core, errors
from yolotf.weights import op_library as _native
from yolotf.weights import write as writing

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
        "yolotf.weights.op_library",
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
    """Forgets what this process has loaded and warned of."""
    _native.op_library.cache_clear()
    monkeypatch.setattr(writing, "_warned", set())
    yield
    _native.op_library.cache_clear()


def loads_right(weights):
    """Loads three times, checks every variable, and returns the path taken and the warnings."""
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
    assert all(warning.category is RuntimeWarning for warning in caught)
    (path_taken,) = paths
    return path_taken, [str(warning.message) for warning in caught]


@pytest.fixture
def op_folder(monkeypatch, tmp_path):
    """An empty folder of ops, in a package that is no checkout."""
    folder = tmp_path / "site/yolotf/_op"
    folder.mkdir(parents=True)
    monkeypatch.setattr(_core, "__file__", str(folder.parent / "_core.so"))
    return folder


OP = _native.op_folder() / f"{_native.minor(tf.__version__)}.so"


@pytest.mark.slow
@pytest.mark.parametrize(
    "minors",
    [["2.9", "2.20"], ["3.21"], []],
)
def test_an_op_of_another_tensorflow_is_not_even_loaded(
    weights, fresh, monkeypatch, op_folder, minors
):
    for minor in minors:
        (op_folder / f"{minor}.so").write_bytes(OP.read_bytes())
    monkeypatch.setattr(tf, "__version__", "2.21.0")
    monkeypatch.setattr(tf, "load_op_library", lambda path: pytest.fail("loaded"))
    path_taken, (warning,) = loads_right(weights)
    assert path_taken == "portable"
    said(warning)
    facts = {"built": ", ".join(minors), "running": "2.21.0"}
    with refused(errors.TensorFlowVersionError, code="tensorflow-version", **facts) as caught:
        _native.op_library()
    assert isinstance(caught.value, ImportError)


def test_op_of_the_running_tensorflow_is_chosen_among_several(
    weights, fresh, monkeypatch, op_folder
):
    for name in ("2.9.so", OP.name, "3.0.so"):
        (op_folder / name).touch()
    load, loaded = tf.load_op_library, []

    def load_the_real_one(path):
        # An operation is registered once in a process, whichever copy of its library it is from.
        loaded.append(path)
        return load(str(OP))

    monkeypatch.setattr(tf, "load_op_library", load_the_real_one)
    assert loads_right(weights) == ("op", [])
    assert loaded == [str(op_folder / OP.name)]


@pytest.mark.parametrize("ending", [".99", ".0-rc1", ".0.post1"])
def test_op_of_another_patch_version_is_loaded(weights, fresh, monkeypatch, ending):
    monkeypatch.setattr(tf, "__version__", OP.stem + ending)
    assert loads_right(weights) == ("op", [])


@pytest.mark.parametrize("fault", ["no library", "a symbol of another TensorFlow"])
def test_without_a_loadable_op_the_portable_path_loads(weights, fresh, op_folder, fault):
    library = OP.read_bytes()
    if fault == "no library":
        (op_folder / OP.name).write_bytes(b"no library at all" * 1000)
    else:
        assert library.count(b"OpKernelContext") > 1
        broken = library.replace(b"OpKernelContext", b"OpKernelContexT")
        (op_folder / OP.name).write_bytes(broken)
    path_taken, warned = loads_right(weights)
    assert path_taken == "portable"
    (warning,) = warned
    said(warning, hide=rf"(?<= by ){re.escape(tf.__version__)}(?=;)")


def test_with_warnings_as_errors_nothing_is_written(weights, fresh, monkeypatch, op_folder):
    (op_folder / "2.9.so").write_bytes(OP.read_bytes())
    model = build(EVERYTHING)
    scramble(model)
    before = snapshot(model)
    with refused(RuntimeWarning):
        yolotf.load_darknet_weights(model, weights)
    assert same(snapshot(model), before)


# The other Keras

LEGACY = """
import sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import yolotf
from support import load_helpers as loading, numpy_loader
from yolotf import errors
from yolotf.weights import native as _native
from yolotf.models.variables import plain
from yolotf.weights import plan, write

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
        replicas = plan.replicas(plain(weight))
        assert len({replica.device for replica in replicas}) == 2
        for replica in replicas:
            assert (loading.bits(replica.numpy()) == expected[name]).all(), name
print("loaded")
"""


@pytest.mark.slow
def test_tf_keras_models_load_too(weights):
    printed = loading.run_python(LEGACY, str(weights), TF_USE_LEGACY_KERAS="1")
    assert printed.splitlines()[-1] == "loaded"
