"""Runs modules with this Python in a process of their own."""

from __future__ import annotations

import sys

# `python -m` looks for modules in the working folder first, whose files may be a stranger's.
# An option against that, -P, exists from Python 3.11 on.
_RUN = (
    "import sys; sys.path[:] = filter(None, sys.path); import runpy; "
    "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)


def command(module: str, *arguments: str) -> list[str]:
    """Returns the command for `python -m module`, which imports nothing from the working folder."""
    return [sys.executable, "-c", _RUN, module, *arguments]
