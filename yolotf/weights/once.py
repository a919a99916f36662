"""What follows from a network alone, worked out once for each."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from yolotf.darknet.network import Network

_R = TypeVar("_R")


def once_a_network(function: Callable[..., _R]) -> Callable[..., _R]:
    """Remembers what `function(network, **options)` returned for as long as the network lives.

    Networks never change. They are told apart by identity: comparing two takes as long as most of
    what follows from them. What is returned must not be changed by anyone.
    """
    known: dict[tuple[Any, ...], tuple[weakref.ref[Network], _R]] = {}

    @functools.wraps(function)
    def call(network: Network, **options: Any) -> _R:
        key = (id(network), *options.items())
        found = known.get(key)
        if found is not None:
            return found[1]
        result = function(network, **options)
        # Gone with the network, before another one can be where it was.
        known[key] = weakref.ref(network, lambda _: known.pop(key, None)), result
        return result

    return call
