"""`python -m yolotf`."""

import sys

from yolotf.cli.commands import main

if __name__ == "__main__":
    sys.exit(main())
