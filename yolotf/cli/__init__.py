"""The command line."""

from yolotf.cli.commands import main as main
