"""`yolotf doctor`: describes what yolotf runs on, and what slows it down."""

from __future__ import annotations

import argparse

from yolotf.cli import arguments
from yolotf.environment_report import environment
from yolotf.files.json import to_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def main(parsed: argparse.Namespace) -> int:
    """Runs the command; always returns 0."""
    with arguments.quiet():
        report = environment()
    print(to_json(report.to_dict(), indent=2) if parsed.json else report)
    return 0
