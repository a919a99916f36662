"""The command `yolotf`. Exit codes: 0 done or fits, 1 does not fit, 2 cannot be read or used."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one subcommand; returns the exit code."""
    parsed = _parser().parse_args(arguments)
    try:
        code: int = parsed.run(parsed)
    except BrokenPipeError:
        # The reader has gone, as in `yolotf inspect F | head`; nothing is left to say to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except (OSError, ValueError, ImportError) as error:
        print(f"yolotf: {error}", file=sys.stderr)
        return 2
    return code


def _parser() -> argparse.ArgumentParser:
    from yolotf import __version__

    parser = argparse.ArgumentParser(
        prog="yolotf", description="Darknet .weights files in TensorFlow."
    )
    parser.add_argument("--version", action="version", version=f"yolotf {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo", help="load the official yolov4-tiny and detect in two photographs"
    )
    demo.add_argument("-o", "--output", default="demo-output", help="folder for the pictures")
    demo.set_defaults(run=_demo)
    return parser


def _demo(parsed: argparse.Namespace) -> int:
    # TensorFlow's own log would bury the result; who wants it sets the variable.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from yolotf import demo

    demo.run(parsed.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
