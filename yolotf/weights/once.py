"""Caches a function's result for each immutable object it is called with."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

_R = TypeVar("_R")


def once_each(function: Callable[..., _R]) -> Callable[..., _R]:
    """Caches `function(subject, **options)` for as long as `subject` lives.

    Meant for immutable objects such as networks and plans, and for their methods. Subjects are
    compared by identity, because comparing two networks by value costs as much as most of the
    functions cached here. A result must not be modified, and must not refer to its subject, which
    would then never be freed.
    """
    cache: dict[tuple[Any, ...], tuple[weakref.ref[Any], _R]] = {}

    @functools.wraps(function)
    def call(subject: Any, **options: Any) -> _R:
        key = (id(subject), *options.items())
        entry = cache.get(key)
        if entry is not None:
            return entry[1]
        result = function(subject, **options)
        # The entry is dropped with the subject, before another object can get its id.
        cache[key] = weakref.ref(subject, lambda _: cache.pop(key, None)), result
        return result

    return call
