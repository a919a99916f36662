"""What follows from an object that never changes, worked out once for each."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

_R = TypeVar("_R")


def once_each(function: Callable[..., _R]) -> Callable[..., _R]:
    """Remembers what `function(thing, **options)` returned for as long as the thing lives.

    For networks, plans and the like, and for methods of them. They are told apart by identity:
    comparing two takes as long as most of what follows from them. What is returned must not be
    changed by anyone, nor refer to the thing.
    """
    known: dict[tuple[Any, ...], tuple[weakref.ref[Any], _R]] = {}

    @functools.wraps(function)
    def call(thing: Any, **options: Any) -> _R:
        key = (id(thing), *options.items())
        found = known.get(key)
        if found is not None:
            return found[1]
        result = function(thing, **options)
        # Gone with the thing, before another one can be where it was.
        known[key] = weakref.ref(thing, lambda _: known.pop(key, None)), result
        return result

    return call
