"""`yolotf inspect`: describes a weights file."""

from __future__ import annotations

import argparse

from yolotf.cli import arguments
from yolotf.cli.commands import describe
from yolotf.cli.messages import ignoring_closed_pipe
from yolotf.darknet import stock
from yolotf.diagnosis import inspect, render
from yolotf.files import sources
from yolotf.files.json import to_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.description = (
        "Exit code 0: a .weights file; 1: something else, or damaged; 2: it cannot be read."
    )
    parser.add_argument("file", metavar="FILE", help="the .weights file")
    arguments.add_cfg(
        parser, help="the network, if the file's size does not tell: a cfg file or a stock network"
    )
    arguments.add_classes(parser)
    arguments.add_timeout(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def main(parsed: argparse.Namespace) -> int:
    """Runs the command and returns its exit code."""
    network = None
    if parsed.cfg:
        network = stock.as_network(parsed.cfg, classes=parsed.classes, dialect=parsed.dialect)
    elif parsed.classes is not None:
        raise ValueError("--classes needs --cfg: it replaces the number of classes of that network")
    try:
        with arguments.open_weights(parsed.file, network, parsed.timeout) as file:
            inspection = inspect(file, network)
    except OSError as error:
        if parsed.json:
            with ignoring_closed_pipe():
                print(to_json({"path": sources.name_of(parsed.file), "error": describe(error)}))
        raise
    with ignoring_closed_pipe():
        if parsed.json:
            print(render.to_json(inspection))
        else:
            render.show(inspection)
    return 1 if inspection.detected else 0
