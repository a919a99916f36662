"""`python -m yolotf`, and the command `yolotf`."""

import sys


def main() -> int:
    """Runs the command and returns its exit code; 130 if Ctrl-C is pressed during the imports."""
    try:
        from yolotf.cli import commands  # takes a while; Ctrl-C may come

        return commands.main()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
