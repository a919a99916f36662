"""Writes the table of options at the end of docs/commands.md: python tools/commands_page.py."""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from yolotf.cli.commands import COMMANDS

PAGE = Path(__file__).parents[1] / "docs/commands.md"
START = "## Options\n"
HEAD = f"""{START}
`tools/commands_page.py` writes these tables from the help of the commands.
"""


def parser_of(command: str) -> argparse.ArgumentParser:
    """Returns the parser of a command."""
    parser = argparse.ArgumentParser(prog=f"yolotf {command}")
    importlib.import_module(f"yolotf.cli.{COMMANDS[command][0]}").add_arguments(parser)
    return parser


def rows(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """Returns (spelling, help) of each option in a command's help."""
    for action in parser._actions:
        if action.help == argparse.SUPPRESS or action.dest == "help":
            continue
        yield _spelling(action), _help(parser, action)


def _spelling(action: argparse.Action) -> str:
    value = action.metavar
    if value is None and action.choices is not None:
        value = " or ".join(map(str, action.choices))
    elif value is None and action.nargs != 0:
        value = action.dest.upper()
    values = value if isinstance(value, tuple) else (value,) if value else ()
    names = ", ".join(f"`{name}`" for name in action.option_strings)
    shown = " ".join(f"`{text}`" for text in values).replace("|", "\\|")
    return f"{names} {shown}".strip()


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    text = parser._get_formatter()._expand_help(action) if action.help else ""
    # Options and file names become code, so that Markdown does not change them.
    return re.sub(r"(?<![\w`])(--[a-z][\w-]*|\*?\.[a-z][\w.]*\b)", r"`\1`", text).replace(
        "|", "\\|"
    )


def tables() -> str:
    """Returns the tables of all commands."""
    parts = [HEAD]
    for command, (_, purpose) in COMMANDS.items():
        lines = [f"| {spelling} | {text} |" for spelling, text in rows(parser_of(command))]
        parts.append(f"### yolotf {command}\n\n{purpose[0].upper()}{purpose[1:]}.\n")
        parts.append("\n".join(["| option | |", "|---|---|", *lines]) + "\n")
    return "\n".join(parts)


def page() -> str:
    """Returns the page: its present text with new tables."""
    text = PAGE.read_text(encoding="utf-8")
    return text.partition(START)[0].rstrip() + "\n\n" + tables()


def main() -> None:
    """Writes the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
