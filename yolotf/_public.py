"""Marks what is public, so that it is named by the path people import it from."""

from __future__ import annotations

from typing import Any, TypeVar

_Public = TypeVar("_Public", bound=Any)


def public(thing: _Public) -> _Public:
    """A class or function as `yolotf.Name`: in tracebacks, reprs and pickles.

    Pickles and messages then outlive a move of the module. `yolotf/__init__.pyi` has to name it.
    """
    thing.__module__ = "yolotf"
    return thing
