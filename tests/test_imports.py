"""Imports inside functions: each keeps something heavy or optional out, and says so."""

import ast
import functools
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "yolotf"
HEAVY = {
    *("tensorflow", "keras", "tf_keras", "absl"),
    *("numpy", "PIL", "rich"),
    *(
        "aiohttp",
        "flatbuffers",
        "cv2",
        "fsspec",
        "matplotlib",
        "onnx",
        "pycocotools",
        "ray",
        "safetensors",
        "supervision",
    ),
    *("onnxruntime", "openvino", "pillow_heif", "tf2onnx", "yaml"),
}
"""TensorFlow and what comes with it, what is slow to import, and the optional dependencies."""
LIGHT = {
    ("yolotf", "yolotf.errors"): "an error's words where something is not installed",
    ("yolotf.__main__", "yolotf.cli.commands"): "a Ctrl-C while it is imported",
    ("yolotf.cli.commands", "yolotf"): "yolotf imports it when it is run as a module",
    ("yolotf.cli.detect", "yolotf.inference.detector"): "paths have been looked at without it",
    ("yolotf.cli.label_files", "yolotf.evaluation"): "the detector and its libraries come with it",
    ("yolotf.darknet.dialects", "decimal"): "few cfgs have numbers with exponents",
    (
        "yolotf.diagnosis.file_diagnosis",
        "yolotf.diagnosis.render.html",
    ): "one page of all answers",
    ("yolotf.graphs.tf_operations", "tensorflow.python.eager"): "not every TensorFlow has it",
    ("yolotf.graphs.tf_operations", "tensorflow.python.util"): "not every TensorFlow has it",
    **{
        ("yolotf.inference.engines", f"yolotf.runtime.{engine}"): "another engine is asked for"
        for engine in ("onnx_engine", "onnxruntime_engine", "openvino_engine")
    },
    ("yolotf.inference.diagnosed_errors", "yolotf.diagnosis"): "a start that goes well needs none",
}
"""Where it is something else that is kept out, and why."""


def module_of(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def targets(node):
    """The modules that an import statement runs."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [
        name if name in MODULES else str(node.module)
        for name in (f"{node.module}.{alias.name}" for alias in node.names)
    ]


def for_types(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def imports(body):
    """Import statements that run with the module."""
    for node in body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not for_types(node):
            yield from imports(ast.iter_child_nodes(node))


def calls_keras(tree):
    """Whether the module asks `which_keras` for Keras when it is imported."""
    return any(
        isinstance(node, ast.Call) and ast.unparse(node.func) == "keras"
        for statement in tree.body
        if isinstance(statement, (ast.Assign, ast.AnnAssign))
        for node in ast.walk(statement)
    )


@functools.cache
def brought(module):
    """The heavy packages that come with a module, whatever imports them."""
    heavy, seen, waiting = set(), set(), [module]
    while waiting:
        name = waiting.pop()
        root = name.partition(".")[0]
        if root in HEAVY:
            heavy.add(root)
        if name in seen or root != "yolotf":
            continue
        seen.add(name)
        waiting.append(name.rpartition(".")[0] or "yolotf")
        if name in MODULES:
            tree = ast.parse(MODULES[name].read_text("utf-8"))
            heavy.update(["keras"] if calls_keras(tree) else ())
            for node in imports(tree.body):
                waiting += targets(node)
    return heavy


def inside(path):
    """(line, module) of imports in functions, and the lines that have comments."""
    text = path.read_text("utf-8")
    tree = ast.parse(text)
    inner_imports = {
        (node.lineno, target)
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
        for node in ast.walk(function)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for target in targets(node)
    }
    return sorted(inner_imports), text.split("\n")


@pytest.mark.slow
@pytest.mark.parametrize("module", MODULES)
def test_an_import_in_a_function_keeps_something_out_and_says_so(module):
    inner_imports, lines = inside(MODULES[module])
    numbers = {number for number, _ in inner_imports}
    for number, target in inner_imports:
        if (module, target) not in LIGHT:
            assert brought(target) - brought(module), f"{module}:{number} can stand at the top"
        first = before = number
        while before in numbers or not lines[before - 1].strip():  # one comment for a block
            first = before if before in numbers else first
            before -= 1
        said = " # " in lines[first - 1] or lines[first - 2].lstrip().startswith("# ")
        assert said, f"{module}:{number} does not say what it keeps out"


@pytest.mark.slow
@pytest.mark.parametrize(("module", "target"), LIGHT)
def test_allowed_inner_imports_still_exist(module, target):
    inner_imports, _ = inside(MODULES[module])
    assert target in [imported for _, imported in inner_imports]
    assert not brought(target) - brought(module)


@pytest.mark.parametrize("door", ["yolotf", "yolotf.errors", "yolotf.darknet.cfg"])
def test_import_yolotf_brings_nothing_heavy(door):
    assert not brought(door)


@pytest.mark.slow
def test_heavy_imports_are_detected_through_other_modules():
    assert "tensorflow" in brought("yolotf.inference.detector_function")
    assert "rich" in brought("yolotf.diagnosis.render.terminal")
    assert "tensorflow" not in brought("yolotf.diagnosis")
