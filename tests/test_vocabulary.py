"""One word a concept in every public signature, command and Ray setting, and no `Any` types."""

import argparse
import ast
import dataclasses
import importlib
import inspect
import re
import sys
from pathlib import Path

import pytest

import yolotf
from yolotf import evaluation, inference
from yolotf.cli.commands import COMMANDS

ROOT = Path(__file__).parents[1]

INSTEAD = {
    "network": "cfg model_file net source_network",
    "weights": "file weights_file weights_path",
    "images": "picture pictures photos frames",
    "size": "image_size input_size_wh resolution",
    "classes": "num_classes class_count",
    "class_names": "names labels_file",
    "score_threshold": "score conf confidence thresh threshold",
    "iou_threshold": "iou nms nms_threshold",
    "match_iou": "iou_thresh",
    "batch_size": "batch",
    "progress": "callback on_progress bar",
}
"""The word of each concept -> words for it that programs elsewhere use."""
WRONG = {wrong: word for word, others in INSTEAD.items() for wrong in others.split()}

ALLOWED = {
    ("Detections.filter", "score"),  # compares `scores`, as supervision's do
    ("Network", "net"),  # the section [net]
    ("Diagnosis", "file"),  # an opened file, not what the caller has
}
FORBIDDEN_PARTS = ("picture",)

TYPES = {
    "batch_size": r"int( \| None)?",
    "class_names": r"Names|(Sequence|tuple)\[str(, \.\.\.)?\]",
    "classes": r"int( \| None)?|.*NDArray.*|npt\.ArrayLike|Sequence\[int.*|tuple\[(str|Cl).*",
    "iou_threshold": r"float( \| Tensor)?",
    "match_iou": "float",
    "network": r".*\bNetwork\b.*",
    "progress": r"Progress \| None",
    "score_threshold": r"float( \| Tensor)?",
    "weights": r"WeightsSource( \| None)?|_Path|str \| os\.PathLike\[str\]|StrPath",
}
"""What each word stands for wherever it is a parameter: a pattern of its annotation."""

ANY = {
    ("YolotfError", "**facts"),  # the numbers of a sentence
    ("WeightsMismatch.diagnosis", "return"),  # a Diagnosis, which imports the errors
}
"""Where `Any` stays, beside JSON (`dict[str, Any]`) and arrays of any number (`NDArray[Any]`)."""


def members(prefix, thing):
    """(name, function) of a public function, or of a class's constructor, methods, properties."""
    if not inspect.isclass(thing):
        yield prefix, thing
        return
    if "__init__" in vars(thing):
        yield prefix, thing.__init__
    for name, value in vars(thing).items():
        if name.startswith("_") and name != "__call__":
            continue
        if isinstance(value, property):
            yield f"{prefix}.{name}", value.fget
        function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        if inspect.isfunction(function):
            yield f"{prefix}.{name}", function


def functions():
    public = {name: getattr(yolotf, name) for name in yolotf.__all__}
    for module in (evaluation, inference):
        public |= {name: getattr(module, name) for name in module.__all__}
    for name, thing in public.items():
        if inspect.isclass(thing) or inspect.isfunction(thing):
            yield from members(name, thing)


FUNCTIONS = dict(functions())


def annotations(function):
    """{parameter or "return": annotation as written}, without those of other versions' names."""
    signature = inspect.signature(function)
    for name, parameter in signature.parameters.items():
        if name not in ("self", "cls"):
            stars = {parameter.VAR_KEYWORD: "**", parameter.VAR_POSITIONAL: "*"}
            yield stars.get(parameter.kind, "") + name, text(parameter.annotation)
    yield "return", text(signature.return_annotation)


def text(annotation):
    return annotation if isinstance(annotation, str) else str(annotation)


def test_public_functions_are_collected():
    assert {"Detector", "Detector.__call__", "convert", "score", "Score.to_dict"} <= set(FUNCTIONS)
    assert len(FUNCTIONS) > 90


@pytest.mark.parametrize("name", FUNCTIONS)
def test_parameters_have_the_word_of_their_concept(name):
    for parameter, annotation in annotations(FUNCTIONS[name]):
        if (name, parameter) in ALLOWED or parameter == "return":
            continue
        assert parameter not in WRONG, f"{parameter} is called {WRONG[parameter]}"
        assert not any(part in parameter for part in FORBIDDEN_PARTS), parameter
        if parameter in TYPES and name != "LoadReport":
            assert re.fullmatch(TYPES[parameter], annotation), (parameter, annotation)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_signatures_say_their_types(name):
    for parameter, annotation in annotations(FUNCTIONS[name]):
        assert annotation != "<class 'inspect._empty'>", parameter
        shown = re.sub(r"(dict|Mapping)\[str, Any\]|NDArray\[Any\]", "object", annotation)
        words = {node.id for node in ast.walk(ast.parse(shown)) if isinstance(node, ast.Name)}
        scope = getattr(inspect.unwrap(FUNCTIONS[name]), "__globals__", {})
        hidden = {word for word in words - {"Tensor"} if scope.get(word) is scope.get("Any", 0)}
        if (name, parameter) not in ANY:
            assert "Any" not in words, (parameter, annotation)
            assert not hidden, (parameter, annotation)


def options(command):
    """The options of a command, as argparse has them."""
    parser = argparse.ArgumentParser()
    importlib.import_module(f"yolotf.cli.{COMMANDS[command][0]}").add_arguments(parser)
    return [action for action in parser._actions if action.option_strings]


def test_options_have_the_word_of_their_concept():
    # Darknet's words come first in a command, those of Python are taken as well.
    words_of_darknet = {"--cfg": "--network", "--names": "--class-names"}
    for command in COMMANDS:
        for action in options(command):
            first = next(text for text in action.option_strings if text.startswith("--"))
            if first in words_of_darknet:
                assert words_of_darknet[first] in action.option_strings, (command, first)
                continue
            word = first[2:].replace("-", "_")
            assert word not in WRONG, (command, first)
            assert not any(part in word for part in FORBIDDEN_PARTS), (command, first)


@pytest.mark.filterwarnings("ignore")  # of Ray and pydantic
def test_settings_of_ray_have_the_word_of_their_concept():
    pytest.importorskip("ray")
    from yolotf.ray.settings import Settings

    for name in Settings.model_fields:
        assert name not in WRONG, name
        assert not any(part in name for part in FORBIDDEN_PARTS), name


def test_the_page_of_commands_has_every_option_as_its_help_says():
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import commands_page
    finally:
        sys.path.pop(0)
    text = commands_page.PAGE.read_text(encoding="utf-8")
    assert text == commands_page.page(), "run python tools/commands_page.py"
    named = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", text))
    known = set()
    for command in COMMANDS:
        for action in options(command):
            known.update(action.option_strings)
            if action.help != argparse.SUPPRESS and action.dest != "help":
                long = {text for text in action.option_strings if text.startswith("--")}
                assert long <= named, command
    assert named - known - {"--version"} == set()


def test_fields_of_results_have_the_word_of_their_concept():
    for name in yolotf.__all__:
        thing = getattr(yolotf, name)
        if dataclasses.is_dataclass(thing):
            for field in dataclasses.fields(thing):
                if (name, field.name) not in ALLOWED:
                    assert field.name not in WRONG, (name, field.name)
