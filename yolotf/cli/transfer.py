"""A bar on stderr for what comes over a network."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from yolotf.weights import sources


@contextlib.contextmanager
def opened_or_named(weights: str) -> Iterator[sources.Local]:
    """`opened`, or what leads a diagnosis to the same error, which it answers in its own way."""
    with contextlib.ExitStack() as stack:
        try:
            source = stack.enter_context(opened(weights))
        except OSError:
            source = sources.Local(weights, weights)
        yield source


@contextlib.contextmanager
def opened(weights: str) -> Iterator[sources.Local]:
    """`sources.opened`; on a terminal one sees how much of a URL has come."""
    if sources.url_of(weights) is None:
        with sources.opened(weights) as source:
            yield source
        return
    # rich: only where there is something to show.
    from rich import progress as bars
    from rich.console import Console

    console = Console(stderr=True)
    columns = (
        bars.TextColumn("fetching"),
        bars.BarColumn(),
        bars.DownloadColumn(),
        bars.TransferSpeedColumn(),
    )
    with contextlib.ExitStack() as stack:
        with bars.Progress(
            *columns, console=console, transient=True, disable=not console.is_terminal
        ) as bar:
            task = bar.add_task("fetching", total=None)
            source = stack.enter_context(
                sources.opened(
                    weights,
                    lambda done, size: bar.update(task, completed=done, total=size or None),
                )
            )
        yield source
