"""Import paths of earlier versions, which programs may still use."""

import importlib
import importlib.util
import pickle
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import yolotf
from yolotf import _moved

NAMES = {
    "cfg": "Network Shape Layer Convolutional Yolo Region parse_cfg",
    "cli": "main",
    "decode": "decode_head letter_box_size undo_letter_box",
    "detections": "Detections open_picture",
    "diagnosis": "Diagnosis Inspection diagnose inspect",
    "inference": "Detector InferenceFunction build_function fit read_names to_float",
    "keras_layers": "GroupedConv2D LocallyConnected2D Reorg Shortcut Activation",
    "keras_model": "build_model layer_name network_of read_model",
    "layout": "Plan Segment floats segments size_bytes",
    "load": "LoadReport load_darknet_weights",
    "networks": "NAMES find network",
    "save": "save_darknet_weights",
}


@pytest.mark.parametrize("module", NAMES)
def test_old_modules_have_their_names(module):
    imported = importlib.import_module(f"yolotf.{module}")
    for name in NAMES[module].split():
        assert hasattr(imported, name), name


@pytest.mark.parametrize("module", sorted(_moved.HOMES))
def test_the_old_path_is_the_new_module(module):
    if _moved.HOMES[module].partition(".")[0] == "ray":
        pytest.importorskip("ray")
        pytest.importorskip("fastapi")
    home = importlib.import_module(f"yolotf.{_moved.HOMES[module]}")
    assert importlib.import_module(f"yolotf.{module}") is home
    assert home.__spec__.name == home.__name__


def test_stubs_of_old_modules_name_the_new_ones():
    root = Path(yolotf.__path__[0])
    stubs = [stub for stub in root.rglob("*.pyi") if "import *" in stub.read_text()]
    assert len(stubs) == 4
    for stub in stubs:
        old = ".".join(stub.relative_to(root).with_suffix("").parts)
        assert f"\nfrom yolotf.{_moved.HOMES[old]} import *\n" in stub.read_text()


def test_removed_packages_still_have_their_modules():
    old = importlib.import_module("yolotf.serving")
    names = {}
    exec("from yolotf.serving import detector, evaluation", names)
    exec("from yolotf.serving.evaluation import coco", names)
    assert names["evaluation"] is importlib.import_module("yolotf.evaluation")
    assert names["detector"] is importlib.import_module("yolotf.inference.detector") is old.detector
    assert names["coco"] is importlib.import_module("yolotf.evaluation.coco")


def test_an_old_path_hides_no_function_of_its_name():
    code = (
        "import yolotf.serving.evaluation.plot, yolotf.serving.evaluation.compare\n"
        "from yolotf import evaluation\n"
        "from yolotf.serving.evaluation.plot import figure_for\n"
        "assert figure_for is evaluation.figure_for\n"
        "assert callable(evaluation.plot) and callable(evaluation.compare)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_module_has_the_name_of_a_function_of_its_package():
    root = Path(yolotf.__path__[0])
    assert not {module.name for module in pkgutil.iter_modules([str(root)])} & set(yolotf.__all__)
    for folder in root.rglob("__init__.py"):
        name = ".".join(["yolotf", *folder.relative_to(root).parts[:-1]])
        if name == "yolotf.ray" and importlib.util.find_spec("ray") is None:
            continue  # tests/test_ray.py has Ray
        package = importlib.import_module(name)
        for module in pkgutil.iter_modules(package.__path__):
            value = vars(package).get(module.name)
            assert value is None or isinstance(value, ModuleType), f"{name}.{module.name}"


def test_a_pickle_names_the_old_path():
    pickled = b"cyolotf.serving.detections\nDetections\n."
    assert pickle.loads(pickled) is importlib.import_module("yolotf").Detections


def test_unknown_modules_are_import_errors():
    with pytest.raises(ModuleNotFoundError, match=r"yolotf\.never"):
        importlib.import_module("yolotf.never")


@pytest.mark.slow
def test_documented_modules_are_there_without_an_import_of_their_own():
    code = (
        "import sys, yolotf\n"
        "yolotf.errors.WeightsMismatch, yolotf.compat.__path__, yolotf.cfg.parse_cfg\n"
        "assert 'tensorflow' not in sys.modules\n"
        "yolotf.inference.build_function, yolotf.keras_layers.reset_states\n"
        "try:\n    yolotf.nothing\nexcept AttributeError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "nothing" in done.stdout


@pytest.mark.slow
def test_a_function_stays_where_an_old_module_of_its_name_is_imported():
    code = (
        "import yolotf\n"
        "from yolotf.convert import format_of\n"
        "from yolotf.decode import letter_box_size\n"
        "assert callable(yolotf.convert) and callable(yolotf.decode)\n"
        "from yolotf import convert, decode\n"
        "assert callable(convert) and callable(decode)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_pickles_of_version_0_1_are_read():
    network = yolotf.network("yolov4-tiny")
    old = pickle.dumps(network, protocol=0).replace(
        b"cyolotf\nNetwork\n", b"cyolotf.darknet.network\nNetwork\n"
    )
    assert b"yolotf.darknet.network" in old
    assert pickle.loads(old) == network
