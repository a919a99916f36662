"""`yolotf check`: whether file and network, or Keras model, belong together."""

from __future__ import annotations

import argparse

from yolotf.cli import arguments, transfer
from yolotf.diagnosis import render
from yolotf.loading import diagnosing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.description = "Exit code 0: it fits; 1: it does not; 2: it cannot be read."
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--cfg", metavar="CFG|NAME", help="a cfg file or a stock network")
    arguments.add_classes(parser)
    parser.add_argument(
        "--model", metavar="M.keras", help="a Keras model in place of the cfg, or against it"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    parser.add_argument("--html", metavar="OUT", help="write a page with a picture of the layers")


def main(parsed: argparse.Namespace) -> int:
    """The command; returns its exit code."""
    if not parsed.cfg and not parsed.model:
        raise ValueError("check needs --cfg or --model")
    model = None
    if parsed.model:
        arguments.require_file(parsed.model)
        with arguments.quiet():
            # TensorFlow: a cfg is checked without.
            from yolotf.models import build

            model = build.read_model(parsed.model)
    with transfer.opened_or_named(parsed.file) as source:
        diagnosis = diagnosing.diagnose(source.path, parsed.cfg or model, classes=parsed.classes)
        diagnosis = source.renamed(diagnosis)
        if parsed.cfg and model is not None:
            diagnosis = diagnosing.against_model(diagnosis, model)
        if parsed.html:
            render.write_html(diagnosis, parsed.html)
        if parsed.json:
            print(render.to_json(diagnosis))
        else:
            render.show(diagnosis)
    return diagnosis.exit_code
