"""Finds phrases that a native engineer would not write, and names that say nothing.

Users read README.md, the pages of docs/, the unreleased part of CHANGELOG.md, the messages and help
texts in yolotf/ (its string literals), and the docstrings of public names (yolotf/__init__.pyi).
Names are those of variables and parameters in all Python code of the project.

Usage: python tools/check_words.py [ROOT]
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

BANNED = {
    r"put(?:s|ting)? out": "outputs",
    r"of (?:its|their|one's|his|her) own": "its own, separate",
    r"(?:is|are|was|were) (?-i:none)(?! of\b)": "is not one, there is none",
    r"(?:is|are|was|be) told(?! apart)": "gets, receives; or name the argument",
    r"for ever": "forever",
    r"(?:answer|behave|call|compute|count|decode|differ|do|end|load|look|name|order|read|say|"
    r"speak|spell|store|work|write)(?:e?s|e?d)? (?:\w+ )?otherwise(?!,)": "differently",
    r"(?:done|written|spelled|read) otherwise(?!,)": "differently",
    r"at (?:every|each|any|all|no) doors?": "everywhere, in every function",
    r"(?:the|every|each|a) doors?": "entry point",
    r"some (?:hundred|thousand)": "a few hundred",
    r"no less than": "at least",
    r"like?est": "most similar, most likely",
    r"(?<!there )(?:is|are) no (?!(?:longer|more|less|other|different|\w+er)\b)\w+": "is not a",
    r"network with a memory": "recurrent network",
    r"parts at": "diverges at",
    r"that is not one": "invalid",
    r"in words": "as text",
    r"answers? with": "returns",
    r"what of (?:a|the|it)": "which part of",
    r"(?<=[.;:] )likewise(?=[.;:])": "say it again",
    r"nothing of (?:it|them)": "none of",
    r"(?:stands?|stood) in (?:line|the)": "is in",
    r"brings? along": "includes",
    r"at Darknet": "in Darknet",
    r"rooms": "packages",
}
"""Phrase (a regular expression for whole words) -> what to write instead."""

BANNED_IN_PROSE = {
    r"pictures?": "image",
    r"exclude each other": "is suppressed; cannot be combined",
    r"what (?:a|the) \w+ is of": "the object in an image",
    r"whose reading of": "which Darknet reads",
    r"the likeliest": "the most likely",
}
"""The same, in pages outside of code, in changes, in public docstrings and in help texts."""

BANNED_NAMES = frozenset(
    ["one", "n", "idx", "found", "told", "held", "that", "what", "which", "both"]
)
"""Names of variables and parameters that do not say what they hold."""

CODE = ("yolotf", "tests", "benchmarks", "tools", "examples")
"""Folders whose Python code is searched for such names."""


def _patterns(banned: dict[str, str]) -> dict[re.Pattern[str], str]:
    return {
        re.compile(rf"(?<![\w`'\"])(?:{phrase})(?![\w`'\"])", re.IGNORECASE): instead
        for phrase, instead in banned.items()
    }


_BANNED = _patterns(BANNED)
_BANNED_IN_PROSE = _patterns(BANNED_IN_PROSE)


class Text(NamedTuple):
    """Some text that users read, where it is, and whether it is prose."""

    path: Path
    line: int
    text: str
    is_prose: bool = False


class Use(NamedTuple):
    """A banned phrase in use."""

    path: Path
    line: int
    phrase: str
    instead: str


def uses(root: Path) -> Iterator[Use]:
    """Yields the banned phrases that users of the project in `root` read, and the banned names."""
    for text in texts(root):
        yield from uses_in(text)
    for folder in CODE:
        for path in sorted((root / folder).rglob("*.py")):
            yield from banned_names(path)


def banned_names(path: Path) -> Iterator[Use]:
    """Yields the variables and parameters of a module that have a banned name.

    Fields of classes are attributes and not checked: `found` is a fact of errors, like `expected`.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    fields = {
        id(statement.target)
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for statement in node.body
        if isinstance(statement, ast.AnnAssign)
    }
    for node in ast.walk(tree):
        if id(node) in fields:
            continue
        for name in _names_bound_by(node):
            if name in BANNED_NAMES:
                yield Use(path, getattr(node, "lineno", 1), name, "a name that says what it holds")


def _names_bound_by(node: ast.AST) -> list[str | None]:
    match node:
        case ast.Name(id=name, ctx=ast.Store()):
            return [name]
        case ast.arg(arg=name) | ast.alias(asname=name):
            return [name]
        case ast.ExceptHandler(name=name) | ast.MatchAs(name=name) | ast.MatchStar(name=name):
            return [name]
        case ast.MatchMapping(rest=name):
            return [name]
    return []


def uses_in(text: Text) -> Iterator[Use]:
    """Yields the banned phrases in a text. A phrase may continue on the next line."""
    joined = re.sub(r"\s", " ", text.text)
    for pattern, instead in (_BANNED_IN_PROSE if text.is_prose else _BANNED).items():
        for match in pattern.finditer(joined):
            line = text.line + text.text.count("\n", 0, match.start())
            yield Use(text.path, line, match.group(), instead)


def texts(root: Path) -> Iterator[Text]:
    """Yields everything that users read."""
    for path in (root / "README.md", *sorted((root / "docs").rglob("*.md"))):
        page = Text(path, 1, path.read_text(encoding="utf-8"))
        yield page
        yield _prose(page)
    latest = _latest(root / "CHANGELOG.md")
    yield latest
    yield _prose(latest)
    trees = {
        path: ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted((root / "yolotf").rglob("*.py"))
    }
    for path, tree in trees.items():
        yield from _literals(path, tree)
        yield from _help(path, tree)
    for path, name in _public_names(root):
        for text in _docstrings(path, trees, name):
            yield text
            yield _prose(text)


def _prose(text: Text) -> Text:
    """Returns the text without code, with the same line numbers."""
    code = re.compile(r"^ *```.*?^ *```$|`[^`]*`", re.MULTILINE | re.DOTALL)
    without = code.sub(lambda match: "\n" * match.group().count("\n"), text.text)
    return text._replace(text=without, is_prose=True)


def _help(path: Path, tree: ast.Module) -> Iterator[Text]:
    """Yields what argparse prints: `help=`, and the descriptions of parsers."""
    for node in ast.walk(tree):
        value = node.value if isinstance(node, ast.keyword) and node.arg == "help" else None
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
            value = node.value if node.targets[0].attr in ("description", "usage") else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield Text(path, value.lineno, value.value, is_prose=True)


def _latest(path: Path) -> Text:
    """Returns the changes of the version at the top; those before it are history."""
    text = path.read_text(encoding="utf-8")
    start = text.index("\n## ") + 1
    end = text.find("\n## ", start)
    return Text(path, text.count("\n", 0, start) + 1, text[start:end] if end > 0 else text[start:])


def _literals(path: Path, tree: ast.Module) -> Iterator[Text]:
    """Yields string literals with a space, except docstrings; in f-strings, values become {}."""
    docstrings = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    inside = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in node.values
    }
    for node in ast.walk(tree):
        if id(node) in docstrings or id(node) in inside:
            continue
        if isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
            text = "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        else:
            continue
        if " " in text.strip():
            yield Text(path, node.lineno, text)


def _public_names(root: Path) -> Iterator[tuple[Path, str]]:
    """Yields (module, name) of everything in yolotf/__init__.pyi."""
    stub = root / "yolotf" / "__init__.pyi"
    for node in ast.walk(ast.parse(stub.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module != "__future__":
            base = root.joinpath(*node.module.split("."))
            for alias in node.names:
                for path in (base.with_suffix(".py"), base / "__init__.py"):
                    if path.is_file():
                        yield path, alias.name


def _docstrings(path: Path, trees: dict[Path, ast.Module], name: str) -> Iterator[Text]:
    """Yields the docstrings of a function or class, and of its public methods and attributes."""
    for node in trees[path].body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            yield from _docstrings_in(path, node)


def _docstrings_in(path: Path, node: ast.FunctionDef | ast.ClassDef) -> Iterator[Text]:
    for part in node.body:
        if isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant):
            if isinstance(part.value.value, str):
                yield Text(path, part.lineno, part.value.value)
        elif (
            isinstance(node, ast.ClassDef)
            and isinstance(part, ast.FunctionDef)
            and (not part.name.startswith("_") or part.name in ("__init__", "__call__"))
        ):
            yield from _docstrings_in(path, part)


def main() -> int:
    """Prints each use; returns 1 if there is any."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1]
    phrases = list(uses(root))
    for use in phrases:
        place = f"{use.path.relative_to(root)}:{use.line}"
        print(f"{place}: {use.phrase!r}; write: {use.instead}")
    return bool(phrases)


if __name__ == "__main__":
    sys.exit(main())
