"""Every benchmark runs on small inputs, and the ways it compares agree. Times are not checked."""

import importlib.util
import json
import os
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import yolotf
from support import helpers

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[1] / "benchmarks"
_NOT_SCRIPTS = {"common.py", "corruptions.py"}
_ENGINES = [name for name in ("openvino", "onnxruntime") if importlib.util.find_spec(name)]

_SLOW = pytest.mark.skipif(
    not os.environ.get("YOLOTF_BENCHMARKS"),
    reason="starts many processes; see make test-benchmarks",
)

_TINY = "--weights {weights} --cfg yolov4-tiny --json"
RUN = {
    "load.py": f"{_TINY} --rounds 1",
    "inference.py": "--networks yolov4-tiny --size 96 --batches 2 --rounds 1 --json",
    "cold_start.py": f"{_TINY} --size 96 --rounds 1 --without classic SavedModel 'yolotf Keras' "
    "'yolotf build_function' 'import tensorflow'",
    "hostile_cfgs.py": "--only comments",
    "memory.py": _TINY,
    "convert_onnx.py": f"{_TINY} --repeat 1 --without tf2onnx",
    "diagnosis.py": "--silent --corruptions 7 --json",
}
"""Arguments that make each benchmark small."""

ELSEWHERE = {
    "reload.py": "needs YOLOv4 and takes a minute",
    "ray_service.py": "starts a Ray cluster for a minute",
    "remote.py": "starts servers for files and for S3",
}
"""Why the others are checked by mypy alone."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    sys.path.insert(0, str(FOLDER))
    try:
        from common import make_weights
    finally:
        sys.path.remove(str(FOLDER))
    path = tmp_path_factory.mktemp("benchmarks") / "tiny.weights"
    make_weights(yolotf.network("yolov4-tiny"), path)
    return path


def test_every_benchmark_is_run_or_says_why_not():
    scripts = {path.name for path in FOLDER.glob("*.py")} - _NOT_SCRIPTS
    assert {*RUN, *ELSEWHERE} == scripts


def ran(name, weights):
    """What the script prints; in a process of its own, as it is used."""
    arguments = shlex.split(RUN[name].format(weights=weights))
    run = subprocess.run(
        [sys.executable, FOLDER / name, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@_SLOW
def test_loading_has_all_rows(weights):
    result = json.loads(ran("load.py", weights))
    ways = {row["way"] for row in result["rows"]}
    assert {"memcpy (floor)", "yolotf op", "load_darknet_weights", "pure Python"} <= ways
    first = {row["way"]: row for row in result["first"]}
    assert first["copied into new memory (floor)"]["to_floor"] == 1
    assert {"load_darknet_weights, first", "load_darknet_weights, again", "runtime, first"} <= {
        *first
    }
    assert result["processor"]


def test_inference_compares_engines_with_themselves(weights):
    result = json.loads(ran("inference.py", weights))
    rows = {row["way"]: row for row in result["rows"]}
    assert rows["yolotf"]["times_own"] is None
    for engine in _ENGINES:
        assert rows[f"yolotf, {engine}"]["times_own"] > 0


@_SLOW
def test_cold_start_compares_engines_with_themselves(weights):
    result = json.loads(ran("cold_start.py", weights))
    rows = {row["way"]: row for row in result["rows"]}
    assert rows["yolotf"]["total"] > 0
    for engine in _ENGINES:
        if importlib.util.find_spec("onnx"):
            assert rows[f"yolotf, {engine}"]["times_own"] > 0


@pytest.mark.parametrize(
    "name", ["hostile_cfgs.py", pytest.param("memory.py", marks=_SLOW), "convert_onnx.py"]
)
def test_other_benchmarks_run(name, weights):
    if name == "convert_onnx.py":
        pytest.importorskip("onnx")
    assert ran(name, weights)


@pytest.mark.shared
def test_diagnosis_has_no_wrong_alarm(weights):
    if not helpers.SHARED.is_dir():
        pytest.skip(helpers.NO_SHARED)
    assert json.loads(ran("diagnosis.py", weights))["wrong_alarms"] == 0


@pytest.mark.parametrize("name", sorted(ELSEWHERE))
def test_remaining_benchmarks_have_help(name, capsys, monkeypatch):
    if name != "reload.py":
        pytest.importorskip("ray" if name == "ray_service.py" else "boto3")
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    monkeypatch.syspath_prepend(FOLDER)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(FOLDER / name), run_name="__main__")
    assert ended.value.code == 0
    assert "--" in capsys.readouterr().out
