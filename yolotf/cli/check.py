"""`yolotf check`: whether a weights file matches a network or a Keras model."""

from __future__ import annotations

import argparse
import contextlib
from typing import Any

from yolotf.cli import arguments, network_files
from yolotf.cli.messages import ignoring_closed_pipe
from yolotf.darknet.network import Network
from yolotf.darknet.stock import as_network
from yolotf.diagnosis import file_diagnosis, render
from yolotf.diagnosis.file_diagnosis import Diagnosis
from yolotf.files import output_target
from yolotf.weights.file import WeightsFile


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.description = "Exit code 0: the file matches; 1: it does not; 2: it cannot be read."
    parser.add_argument(
        "file",
        nargs="?",
        metavar="FILE",
        help="the .weights file; by default, the one beside the cfg",
    )
    arguments.add_cfg(parser)
    arguments.add_classes(parser)
    parser.add_argument(
        "--model",
        metavar="M.keras",
        help="a Keras model to compare with, in place of a cfg or in addition to it",
    )
    parser.add_argument(
        "--trust-model",
        action="store_true",
        help="load a model that contains Python code, such as a Lambda layer; the code may run",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--html", metavar="OUT", help="write an HTML page that draws the layers")
    arguments.add_overwrite(parser)
    arguments.add_timeout(parser)
    parser.set_defaults(parser=parser)


def main(parsed: argparse.Namespace) -> int:
    """Runs the command and returns its exit code."""
    network_files.complete_file(parsed)
    if not parsed.cfg and not parsed.model:
        raise ValueError("check needs --cfg or --model")
    read = [path for path in (parsed.file, parsed.cfg, parsed.model) if path]
    if parsed.html:
        output_target.checked_target(parsed.html, overwrite=parsed.overwrite, inputs=read)
    model = _read_model(parsed.model, trust=parsed.trust_model) if parsed.model else None
    with contextlib.ExitStack() as stack:
        try:
            expected = _network(parsed, model) if parsed.cfg else None
            opened = arguments.open_weights(parsed.file, expected, parsed.timeout)
            file = stack.enter_context(opened)
        except OSError as error:  # a URL that does not exist or denies access
            diagnosis = file_diagnosis.unreadable(parsed.file, error, _network(parsed, model))
        else:
            diagnosis = _diagnose(file, parsed, model)
        if parsed.html:
            render.write_html(diagnosis, parsed.html, overwrite=parsed.overwrite, inputs=read)
        with ignoring_closed_pipe():
            if parsed.json:
                print(render.to_json(diagnosis))
            else:
                render.show(diagnosis)
    return diagnosis.exit_code


def _read_model(path: str, *, trust: bool) -> Any:
    arguments.require_file(path)
    with arguments.quiet():
        # imports TensorFlow, which checking a cfg does not need
        from yolotf.models import build

        return build.read_model(path, trust=trust)


def _network(parsed: argparse.Namespace, model: Any) -> Network:
    if parsed.cfg:
        return as_network(parsed.cfg, classes=parsed.classes, dialect=parsed.dialect)
    from yolotf.models.network_like import network_like  # imports Keras

    return network_like(model)


def _diagnose(file: WeightsFile, parsed: argparse.Namespace, model: Any) -> Diagnosis:
    if model is None:
        return file_diagnosis.diagnose(
            file, parsed.cfg, classes=parsed.classes, dialect=parsed.dialect
        )
    from yolotf.loading import diagnose  # imports Keras

    if not parsed.cfg:
        return diagnose.diagnose(file, model, classes=parsed.classes)
    diagnosis = file_diagnosis.diagnose(
        file, parsed.cfg, classes=parsed.classes, dialect=parsed.dialect
    )
    return diagnose.against_model(diagnosis, model)
