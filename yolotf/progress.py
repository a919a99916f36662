"""The `progress` argument: one signature wherever a function takes it."""

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

Before = Literal["done, total", "count", "stage"]
"""The parameters of the callbacks of version 0.1."""


def ignore(stage: str, done: int, total: int) -> None:
    """The progress callback of callers that pass none."""


def as_progress(progress: Callable[..., None] | None, before: Before) -> Progress:
    """Returns a callback for `progress(stage, done, total)`.

    Args:
        progress: the caller's; None: calls are ignored. One with the parameters of `before` is
            adapted, with a DeprecationWarning.
        before: the parameters that the function's callback had before.

    Raises:
        TypeError: it takes other arguments, or is not callable.
    """
    if progress is None:
        return ignore
    if _takes(progress, 3):
        return progress
    if not _takes(progress, len(before.split(","))):
        raise TypeError(
            f"progress={progress!r} must be callable as progress(stage, done, total), or None"
        )
    warn_caller(
        f"progress is called as progress(stage, done, total) now, not as progress({before})",
        DeprecationWarning,
    )
    return _ADAPTERS[before](progress)


def _takes(function: Any, count: int) -> bool:
    """Whether a function can be called with `count` positional arguments."""
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
    before = 0

    def progress(stage: str, done: int, total: int) -> None:
        nonlocal before
        if done > before:
            function(done - before)
        before = done

    return progress


def _of_stage(function: Callable[[str], None]) -> Progress:
    """Calls `function` with the name of each stage, once."""
    before = ""

    def progress(stage: str, done: int, total: int) -> None:
        nonlocal before
        if stage != before:
            before = stage
            function(stage)

    return progress


_ADAPTERS: dict[Before, Callable[[Callable[..., None]], Progress]] = {
    "done, total": _of_done_and_total,
    "count": _of_count,
    "stage": _of_stage,
}
