"""`python -m yolotf`, and the command `yolotf`."""

import sys


def main() -> int:
    """Runs a command; returns the exit code, also of a Ctrl-C before there is a command."""
    try:
        from yolotf.cli import commands  # inside: importing takes a while in which one may press it

        return commands.main()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
