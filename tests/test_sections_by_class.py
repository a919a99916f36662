"""What differs between sections stands in the files of the sections, not in switches on them."""

import ast
import inspect
from pathlib import Path

import pytest

import yolotf
from yolotf.darknet import cfg
from yolotf.darknet.layer import SECTIONS, Layer
from yolotf.darknet.sections import antialiased, heads

ROOT = Path(yolotf.__path__[0])
CLASSES = {
    name
    for module in (cfg, antialiased, heads)
    for name, cls in vars(module).items()
    if inspect.isclass(cls) and issubclass(cls, Layer)
} - {"Layer"}
TYPES = {*SECTIONS, *cfg.SECTION_ALIASES}

ALLOWED = {
    "graphs/yolo_loss.py:head.type != 'yolo'": "the loss of [yolo]; refuses all other heads",
}
"""`file:line of code` -> why it has to ask for the class of a section."""


def imported_as_keras_layers(tree: ast.Module) -> set[str]:
    """Names that a module has for Keras layers, some of which are called as sections are."""
    return {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("yolotf.models")
        for alias in node.names
    }


def names_section(node: ast.expr, others: set[str]) -> bool:
    """Whether an expression names a section's class: `cfg.Route`, or `Route`, or in a tuple."""
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return any(names_section(item, others) for item in node.elts)
    if isinstance(node, ast.BinOp):
        return names_section(node.left, others) or names_section(node.right, others)
    if isinstance(node, ast.Attribute):
        return isinstance(node.value, ast.Name) and node.value.id == "cfg" and node.attr in CLASSES
    return isinstance(node, ast.Name) and node.id in CLASSES - others


def is_type(node: ast.expr) -> bool:
    """Whether an expression is `layer.type`, or `type(layer)`."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == "type"
    return isinstance(node, ast.Attribute) and node.attr == "type"


def names_type(node: ast.expr) -> bool:
    """Whether an expression is the name of a section, or holds some."""
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return any(names_type(item) for item in node.elts)
    return isinstance(node, ast.Constant) and node.value in TYPES


def switches(text: str) -> list[str]:
    """The lines of a module that ask for the class or the name of a section."""
    tree = ast.parse(text)
    others = imported_as_keras_layers(tree)
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            asks = node.func.id in ("isinstance", "issubclass")
            hit = asks and len(node.args) == 2 and names_section(node.args[1], others)
        elif isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            hit = any(map(is_type, sides)) and any(
                names_type(side) or names_section(side, others) for side in sides
            )
        elif isinstance(node, ast.MatchClass):
            hit = names_section(node.cls, others)
        else:
            continue
        if hit:
            lines.append(ast.unparse(node))
    return lines


@pytest.mark.slow
def test_no_module_switches_on_sections():
    type_switches = []
    for path in sorted(ROOT.rglob("*.py")):
        place = path.relative_to(ROOT)
        if "sections" not in place.parts[:-1]:
            type_switches += [
                f"{place.as_posix()}:{line}" for line in switches(path.read_text("utf-8"))
            ]
    # A member of the class says it, or a register by class; see docs/architecture.md.
    assert sorted(type_switches) == sorted(ALLOWED)


@pytest.mark.parametrize(
    "text",
    [
        "isinstance(layer, cfg.Convolutional)",
        "isinstance(layer, (cfg.Network, cfg.Route))",
        "isinstance(head, Region | Detection)",
        "issubclass(cls, cfg.Head)",
        "layer.type == 'cost'",
        "layer.type in ('avgpool', 'connected')",
        "type(layer) is cfg.Route",
        "match layer:\n    case cfg.Pool(size=2):\n        pass",
    ],
)
def test_switches_are_recognized(text):
    assert len(switches(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "isinstance(source, cfg.Network)",
        "from yolotf.models.keras_layers import Route\nisinstance(layer, Route)",
        "layer.type == other.type",
        "issue.type == 'warning'",
        "LOWERINGS[type(layer)]",
        "of_class(layers, cfg.Convolutional)",
    ],
)
def test_other_comparisons_are_not_switches(text):
    assert not switches(text)
