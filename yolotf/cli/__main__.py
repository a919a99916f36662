"""`python -m yolotf.cli`."""

import sys

from yolotf.cli.commands import main

sys.exit(main())
