"""Checks arguments that are numbers or switches; all errors are sentences that name the argument.

NumPy's scalars and arrays and tensors of one number are taken; `True` is not a number, nor is "2".
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")


def integer(name: str, value: Any) -> int:
    """Returns a whole number.

    Raises:
        TypeError: it is not one, or of a type of floats.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except Exception:  # tensors raise their own types
        raise TypeError(f"{name}={value!r:.80} must be a whole number") from None


def is_integer(value: Any) -> bool:
    """Returns whether `integer` takes the value."""
    try:
        integer("", value)
    except TypeError:
        return False
    return True


def count(name: str, value: Any, *, most: int | None = None) -> int:
    """Returns a whole number of at least 1.

    Raises:
        TypeError: see `integer`.
        ValueError: it is below 1 or above `most`.
    """
    number = integer(name, value)
    if number < 1:
        raise ValueError(f"{name}={number} must be at least 1")
    if most is not None and number > most:
        raise ValueError(f"{name}={number} must be at most {most}")
    return number


def real(name: str, value: Any) -> float:
    """Returns a number.

    Raises:
        TypeError: it is not one.
    """
    try:
        kind = str(getattr(value, "dtype", "float"))  # tensors and arrays may contain text
        if isinstance(value, bool | str | bytes) or ("float" not in kind and "int" not in kind):
            raise TypeError
        return float(value)
    except OverflowError:
        return float("inf")
    except Exception:  # tensors raise their own types
        raise TypeError(f"{name}={value!r:.80} must be a number") from None


def flag(name: str, value: Any) -> bool:
    """Returns a switch: True, False, 1 or 0.

    Raises:
        TypeError: it is neither; any text, "no" as well, would count as True.
    """
    if isinstance(value, bool) or type(value).__name__ in ("bool", "bool_"):  # NumPy's
        return bool(value)
    if isinstance(value, int) and value in (0, 1):
        return value == 1
    raise TypeError(f"{name}={value!r:.80} must be True or False")


def flags_checked(*names: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Decorates a function to take its keyword arguments `names` as `flag` does."""

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        @functools.wraps(function)
        def call(*arguments: _P.args, **options: _P.kwargs) -> _R:
            for name in options.keys() & set(names):
                options[name] = flag(name, options[name])
            return function(*arguments, **options)

        return call

    return decorate


def height_and_width(
    size: Any, example: Callable[[str], str] = "size={}".format
) -> tuple[int, int]:
    """Returns `size` as (height, width).

    Args:
        size: a whole number, or two.
        example: the correct call, for errors, with this text as the size.

    Raises:
        TypeError: it is neither a whole number nor a pair of them.
    """
    try:
        pair = (size, size) if isinstance(size, str | bytes) else tuple(size)
    except TypeError:
        pair = (size, size)
    try:
        height, width = (integer("size", pixels) for pixels in pair)
    except (TypeError, ValueError):
        raise TypeError(
            f"size must be a number or two, as {example(_intended(size))}; not {size!r:.80}"
        ) from None
    return height, width


def _intended(size: Any) -> str:
    """Returns what a size of a wrong type was probably meant to be."""
    text = size if isinstance(size, str) else ""
    if written := re.fullmatch(r"\s*(\d+)\s*(?:[xX*,]\s*(\d+)\s*)?", text):
        width, height = written.groups()
        return f"({height}, {width}), height first" if height else str(width)
    if isinstance(size, float) and size.is_integer():
        return str(int(size))
    return "416, or (height, width)"
