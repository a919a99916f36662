"""The command `yolotf`. Exit codes: 0 done or matches, 1 does not match, 2 unusable input."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from yolotf.cli.messages import discard, say, shown
from yolotf.errors import WeightsMismatch, with_install_advice
from yolotf.files import read_files
from yolotf.graphs.tf_errors import of_tensorflow
from yolotf.text import escaped

COMMANDS = {
    "demo": ("demo", "load the official yolov4-tiny.weights and detect in two photos"),
    "inspect": ("inspect", "describe a .weights file: header, network, layers, statistics"),
    "check": ("check", "say whether a .weights file matches a network, and if not, why"),
    "detect": ("detect", "detect objects in images, folders, videos and streams"),
    "classify": ("classify", "classify images"),
    "eval": (
        "evaluate",
        "compute mean average precision on labelled images, as darknet detector map does",
    ),
    "convert": (
        "convert",
        "convert weights to .keras, .h5, SavedModel, .tflite, .onnx or .safetensors",
    ),
    "export": ("export", "write a SavedModel for serving: images in, detections out"),
    "save": ("save", "write a .weights file: of a Keras model, or a backbone"),
    "build-op": ("build_op", "compile the op for the installed TensorFlow"),
    "doctor": ("doctor", "describe the environment: versions, op, threads, memory, packages"),
}
"""Command name -> (its module in this package, its purpose).

A module has `add_arguments(parser)` and `main(parsed)`, which returns the exit code. It is imported
only when its command is run.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one subcommand; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    _occupy_closed_streams()
    parsed = _parser(given).parse_args(given)
    if sys.stdout is None:
        print(
            "yolotf: standard output is closed; there is nowhere to print the result",
            file=sys.stderr,
        )
        return 2
    try:
        with read_files.remembered():
            code: int = parsed.main(parsed)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has closed the pipe, as in `yolotf inspect F | head`; stop silently.
        discard(sys.stdout)
        return 0
    except KeyboardInterrupt:
        return 130
    except WeightsMismatch as error:
        say(f"yolotf: {error}")
        return 1
    except (OSError, ValueError, ImportError) as error:
        say(f"yolotf: {describe(error)}")
        if isinstance(error, OSError):
            # Python would flush at exit and report the full disk a second time.
            try:
                sys.stdout.flush()
            except OSError:
                discard(sys.stdout)
        return 2
    except MemoryError as error:
        say(f"yolotf: {describe_memory(error)}")
        return 2
    except Exception as error:
        translated = of_tensorflow(error)
        if translated is None:
            raise
        say(f"yolotf: {translated}")
        return 2
    return code


def describe(error: Exception) -> str:
    """Returns one sentence with the file and the problem, without control characters."""
    text = str(with_install_advice(error) if isinstance(error, ImportError) else error)
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror[:1].lower() + error.strerror[1:]
        if error.filename is not None:
            name = escaped(os.fsdecode(error.filename))  # a line feed would begin another message
            text = f"{name}: {text}"
        elif text.startswith("no usable temporary directory"):  # from Python's tempfile
            text += "; set TMPDIR to a folder that this user can write to"
    return shown(text)


def describe_memory(error: MemoryError) -> str:
    """Returns one sentence: NumPy's message, which gives the size, but not C++'s."""
    text = str(error)
    details = f": {text}" if text and not text.startswith("std::") else ""
    return shown(f"there is no memory left{details}; pass fewer or smaller images")


def _occupy_closed_streams() -> None:
    """Opens /dev/null on any closed standard stream, so that no later file reuses fd 0-2."""
    while (number := os.open(os.devnull, os.O_RDWR)) < 3:
        pass
    os.close(number)
    if sys.stderr is None:
        # print(file=None) would print to stdout.
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 (for the whole run)


def _parser(given: Sequence[str]) -> argparse.ArgumentParser:
    from yolotf import __version__  # imported lazily: yolotf may still be importing

    parser = argparse.ArgumentParser(
        prog="yolotf", description="Darknet .weights files in TensorFlow."
    )
    parser.add_argument("--version", action="version", version=f"yolotf {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    wanted = next((argument for argument in given if not argument.startswith("-")), None)
    for name, (module_name, purpose) in COMMANDS.items():
        command = commands.add_parser(name, help=purpose)
        if name == wanted:
            module = importlib.import_module(f"yolotf.cli.{module_name}")
            module.add_arguments(command)
            command.set_defaults(main=module.main)
    return parser


if __name__ == "__main__":
    sys.exit(main())
