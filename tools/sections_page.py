"""Writes docs/sections.md from the classes of the sections: python tools/sections_page.py."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yolotf.graphs.sections
from yolotf.darknet.dialects import known_keys
from yolotf.darknet.hank_ai import has_section
from yolotf.darknet.layer import GPU_ONLY, SECTION_ALIASES, SECTIONS, Layer
from yolotf.darknet.sections.heads import Head
from yolotf.graphs.lowering import LOWERINGS

PAGE = Path(__file__).parents[1] / "docs/sections.md"
EVERYWHERE = frozenset(
    [
        "burnin_update",
        "clip",
        "dont_update",
        "learning_rate",
        "onlyforward",
        "stopbackward",
        "train_only_bn",
    ]
)
"""Keys of every section that only training uses."""
HEAD = f"""\
# Sections and options

The sections of a cfg that yolotf supports, and what it does with each option.
[Darknet's options](darknet.md) has the options of `[net]`, and what Darknet's forks read
differently. To find out whether your network is supported, call `yolotf.build_model("my.cfg")`: if
not, it raises `UnsupportedSectionError` with the section, its line and the reason.

For each section this page lists:

* **used** options: they change what the file stores or what the network computes, as in Darknet;
* **kept** options: only Darknet's training uses them, and `to_cfg()` writes them back. Every
  section has {", ".join(f"`{key}`" for key in sorted(EVERYWHERE))};
* **refused** combinations: such a network can be inspected and checked, but not built or run. The
  text is the error's, with N where the error has a number or a name.

`parser.c:169` is the line in AlexeyAB's Darknet. `tools/sections_page.py` writes this page from the
classes in `yolotf/darknet/sections`.

| section | has numbers in the file | runs | in hank-ai's Darknet |
|---|---|---|---|
"""


def reachable(start: type[Layer]) -> Iterator[ast.AST]:
    """Yields the code of a class, its bases, and the functions of `yolotf.darknet` they use."""
    waiting: list[Any] = [base for base in start.__mro__ if base is not object]
    seen: set[Any] = set()
    while waiting:
        thing = waiting.pop()
        home = getattr(thing, "__module__", "")
        if thing in seen or not home.startswith("yolotf.darknet.") or thing is Layer:
            continue
        seen.add(thing)
        tree = ast.parse(textwrap.dedent(inspect.getsource(thing)))
        yield tree
        names = vars(sys.modules[home])
        for node in ast.walk(tree):
            named = names.get(node.id) if isinstance(node, ast.Name) else None
            if inspect.isfunction(named):
                waiting.append(inspect.unwrap(named))
            if inspect.isclass(named) and not issubclass(named, (Layer, Exception, tuple)):
                waiting.append(named)
            if isinstance(node, ast.Attribute) and node.attr == "parse":
                other = names.get(getattr(node.value, "id", ""))
                waiting += [base for base in getattr(other, "__mro__", ()) if base is not object]
            if isinstance(node, ast.Attribute) and node.attr == "activation":
                waiting.append(yolotf.darknet.options.Options.activation)


def words_of(node: ast.expr, section: str) -> str:
    """Returns a sentence of the code, with `N` for values, and `KEY` for the option that is set."""
    match node:
        case ast.Constant():
            return str(node.value)
        case ast.JoinedStr():
            return "".join(words_of(part, section) for part in node.values)
        case ast.FormattedValue():
            values = {"key": "KEY", "self.type": section, "GPU_ONLY": GPU_ONLY}
            return values.get(ast.unparse(node.value), "N")
    return "N"


def facts_of(section: type[Layer], name: str) -> tuple[list[str], list[str], list[str]]:
    """Returns the used options, the kept options, and the sentences of refusals."""
    literals: set[str] = set()
    refused: list[str] = []
    known = known_keys(name) or frozenset()
    for tree in reachable(section):
        set_keys: list[str] = []
        sentences: list[str] = []
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                literals.add(node.value)
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Refusal":
                sentences.append(words_of(node.args[0], name))
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "set_key":
                set_keys += [key.value for key in node.args if isinstance(key, ast.Constant)]
        for sentence in sentences:
            keys_meant = [key for key in set_keys if key in known] if "KEY" in sentence else [""]
            refused += [sentence.replace("KEY", key) for key in keys_meant]
    if section.stored is not Layer.stored:
        literals |= {
            "dontload",
            "dontloadscales",
        }  # read for every section, yolotf/darknet/layer.py
    used = sorted(known & literals)
    kept = known - literals - EVERYWHERE - {"dontload", "dontloadscales"}
    return used, sorted(kept), refused


def keys(options: list[str]) -> str:
    """Returns options as code, separated by commas."""
    return ", ".join(f"`{option}`" for option in options)


def page() -> str:
    """Returns the whole page."""
    rows, parts = [], []
    for name, section in SECTIONS.items():
        aliases = sorted(a for a, full in SECTION_ALIASES.items() if full == name and a != name)
        stores: Callable[..., Any] = section.stored
        head = f"[`[{name}]`](#{name.lower()})" + "".join(f", `[{alias}]`" for alias in aliases)
        rows.append(
            f"| {head} | {'yes' if stores is not Layer.stored else 'no'} | "
            f"{'yes' if section in LOWERINGS or issubclass(section, Head) else 'no'} | "
            f"{'yes' if has_section(name) else 'no'} |\n"
        )
        used, kept, refused = facts_of(section, name)
        summary = inspect.cleandoc(section.__doc__ or "").split("\n\n")[0].replace("\n", " ")
        parts.append(f"\n## {name}\n\n{summary}\n")
        if used:
            parts.append(f"\n* used: {keys(used)}\n")
        if kept:
            parts.append(f"{'' if used else chr(10)}* kept: {keys(kept)}\n")
        if refused:
            if not used and not kept:
                parts.append("\n")
            parts += [f"* refused: {text}\n" for text in dict.fromkeys(refused)]
    return HEAD + "".join(rows) + re.sub(r"\n{3,}", "\n\n", "".join(parts))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
