"""The `progress` argument: one signature, and the callbacks that functions took before."""

import inspect
import warnings

import pytest

import yolotf
from support.messages import refused, warned
from yolotf import evaluation
from yolotf.progress import as_progress

CALLS = [("loading", 0, 5), ("loading", 2, 5), ("loading", 5, 5), ("writing", 0, 1)]


def called(progress):
    for call in CALLS:
        progress(*call)


@pytest.mark.parametrize(
    "make",
    [
        lambda calls: lambda stage, done, total: calls.append((stage, done, total)),
        lambda calls: lambda *call: calls.append(call),
        lambda calls: lambda stage, done, total, more=None: calls.append((stage, done, total)),
    ],
)
def test_callbacks_for_stage_done_and_total_are_called_as_they_are(make):
    calls = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for before in ("done, total", "count", "stage"):
            called(as_progress(make(calls), before))
    assert calls == CALLS * 3


def test_no_callback_and_a_built_in_one():
    called(as_progress(None, "stage"))
    called(as_progress(print, "stage"))


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("done, total", [(0, 5), (2, 5), (5, 5), (0, 1)]),
        ("count", [(2,), (3,)]),
        ("stage", [("loading",), ("writing",)]),
    ],
)
def test_callbacks_of_version_0_1_work_and_are_warned_of(before, expected):
    calls = []
    function = eval(f"lambda {before}: calls.append(({before},))", {"calls": calls})
    with warned(DeprecationWarning) as seen:
        progress = as_progress(function, before)
    assert seen[0].filename == __file__
    called(progress)
    assert calls == expected


@pytest.mark.parametrize("wrong", [lambda: None, lambda a, b, c, d: None, 3, "bar"])
def test_other_callbacks_are_refused(wrong):
    for before in ("done, total", "count", "stage"):
        with refused(TypeError):
            as_progress(wrong, before)


FUNCTIONS = {
    "load_darknet_weights": lambda progress: yolotf.load_darknet_weights(
        yolotf.build_model("yolov3-tiny"), "none.weights", progress=progress
    ),
    "diagnose": lambda progress: yolotf.diagnose("none.weights", "yolov4", progress=progress),
    "inspect": lambda progress: yolotf.inspect("none.weights", progress=progress),
    "convert": lambda progress: yolotf.convert(
        "none.weights", "yolov4", "none.h5", progress=progress
    ),
    "evaluate": lambda progress: yolotf.evaluate(
        "yolov4", "none.weights", "none.data", progress=progress
    ),
    "evaluate_classifier": lambda progress: evaluation.evaluate_classifier(
        "darknet53", "none.weights", None, progress=progress
    ),
    "detect_all": lambda progress: evaluation.detect_all(None, None, progress=progress),
}
"""Every public function that takes a callback; its other arguments are wrong."""


def test_every_public_function_with_a_callback_is_tested():
    functions = {**vars(evaluation), **{name: getattr(yolotf, name) for name in yolotf.__all__}}
    assert {
        name
        for name, function in functions.items()
        if inspect.isfunction(function) and "progress" in inspect.signature(function).parameters
    } == set(FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_callback_is_checked_before_anything_else(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with refused(TypeError):
        FUNCTIONS[name](3)
