"""The `progress` argument, which has the same signature in every function."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal

from yolotf._public import warn_caller

Progress = Callable[[str, int, int], None]
"""Called as `progress(stage, done, total)`.

The first call of a stage has `done=0`, and its last one `done == total`. Bytes are counted while
`downloading` (the total is 0 if the server does not state it) and `loading`, images while
`calibrating`, `detecting` and `classifying`; `building` and `writing` go from 0 to 1.
"""

OldParameters = Literal["done, total", "count", "stage"]
"""The parameters that the callbacks of a function had in version 0.1."""


def ignore(stage: str, done: int, total: int) -> None:
    """The progress callback of callers that pass none."""


def as_progress(progress: Callable[..., None] | None, old_parameters: OldParameters) -> Progress:
    """Returns a callback for `progress(stage, done, total)`.

    Args:
        progress: the caller's argument; None: a callback that does nothing. A callback with the old
            parameters is adapted, with a DeprecationWarning.
        old_parameters: the parameters that the function's callback had in version 0.1.

    Raises:
        TypeError: `progress` takes other arguments, or is not callable.
    """
    if progress is None:
        return ignore
    if _takes(progress, 3):
        return progress
    if not _takes(progress, len(old_parameters.split(","))):
        raise TypeError(
            f"progress={progress!r} must be callable as progress(stage, done, total), or None"
        )
    warn_caller(
        "progress is called as progress(stage, done, total) now, not as "
        f"progress({old_parameters})",
        DeprecationWarning,
    )
    return _ADAPTERS[old_parameters](progress)


def _takes(function: Any, count: int) -> bool:
    """Returns whether a function can be called with `count` positional arguments."""
    if not callable(function):
        return False
    try:
        inspect.signature(function).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:  # built-in functions without a signature
        return count == 3
    return True


def _of_done_and_total(function: Callable[[int, int], None]) -> Progress:
    return lambda stage, done, total: function(done, total)


def _of_count(function: Callable[[int], None]) -> Progress:
    """Calls `function` with the number of newly finished items."""
    previous = 0

    def progress(stage: str, done: int, total: int) -> None:
        nonlocal previous
        if done > previous:
            function(done - previous)
        previous = done

    return progress


def _of_stage(function: Callable[[str], None]) -> Progress:
    """Calls `function` with the name of each stage, once."""
    previous = ""

    def progress(stage: str, done: int, total: int) -> None:
        nonlocal previous
        if stage != previous:
            previous = stage
            function(stage)

    return progress


_ADAPTERS: dict[OldParameters, Callable[[Callable[..., None]], Progress]] = {
    "done, total": _of_done_and_total,
    "count": _of_count,
    "stage": _of_stage,
}
