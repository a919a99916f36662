"""A bar on stderr for what comes over a network."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from yolotf.files import sources


@contextlib.contextmanager
def opened(weights: str) -> Iterator[sources.Local]:
    """`sources.opened`; on a terminal one sees how much of a URL has come."""
    if sources.url_of(weights) is None:
        with sources.opened(weights) as source:
            yield source
        return
    from yolotf.cli import progress as bars  # imports rich

    with contextlib.ExitStack() as stack:
        with bars.fetching() as progress:
            source = stack.enter_context(sources.opened(weights, progress))
        yield source
