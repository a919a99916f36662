"""`yolotf build-op`: compiles the op for the installed TensorFlow."""

from __future__ import annotations

import argparse

from yolotf.cli import arguments
from yolotf.cli.messages import say
from yolotf.errors import TensorFlowVersionError
from yolotf.weights import op_build, op_library


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "--force", action="store_true", help="build the op even if a working one exists"
    )


def main(parsed: argparse.Namespace) -> int:
    """Runs the command and returns its exit code."""
    with arguments.quiet():
        running = _running()
        if not parsed.force and _works():
            print(f"there is an op for TensorFlow {running} already")
            return 0
        say(f"compiling the op for TensorFlow {running}, about 15 s ...")
        print(f"built {op_build.build()}")
    return 0


def _running() -> str:
    import tensorflow as tf  # imported lazily: the other commands do without

    return str(tf.__version__)


def _works() -> bool:
    try:
        op_library.op_library()
    except TensorFlowVersionError:
        return False
    return True
