"""Progress on stderr; a separate module, because importing rich takes 0.1 s."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TextIO

from rich import progress
from rich.console import Console


class Counter:
    """Counts finished items; without a bar, prints nothing."""

    def __init__(self, bar: progress.Progress | None, total: int | None) -> None:
        self._bar = bar
        self._total = total
        self._task = progress.TaskID(0) if bar is None else bar.add_task("", total=total)

    def expect(self, more: float) -> None:
        """Raises the total by `more`, for example a video's frame count, unless that is unknown."""
        if self._bar is not None and more > 0:
            self._total = (self._total or 0) + int(more)
            self._bar.update(self._task, total=self._total)

    def step(self, count: int = 1) -> None:
        """Advances by `count`."""
        if self._bar is not None:
            self._bar.advance(self._task, count)


@contextlib.contextmanager
def counted(total: int | None) -> Iterator[Counter]:
    """Yields a counter up to `total`, with a bar if stderr is a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Counter(None, total)
        return
    with progress.Progress(
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
        console=console,
        transient=True,
        # Otherwise rich would send output meant for a file or pipe to stderr.
        redirect_stdout=sys.stdout.isatty(),
    ) as bar:
        yield Counter(bar, total)


@contextlib.contextmanager
def stages(stream: TextIO, total: int) -> Iterator[Callable[[str], None]]:
    """Yields a callback that takes the name of each stage; prints lines if not on a terminal."""
    console = Console(file=stream)
    if not console.is_terminal:
        yield lambda stage: print(f"{stage} ...", file=stream, flush=True)
        return
    columns = (
        progress.SpinnerColumn(),
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.TimeElapsedColumn(),
    )
    with progress.Progress(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task("reading", total=total)
        yield lambda stage: bar.update(task, advance=1, description=stage)


@contextlib.contextmanager
def fetching() -> Iterator[Callable[[int, int], None]]:
    """Yields a callback that takes (bytes done, total bytes or 0); shows a bar on a terminal."""
    console = Console(stderr=True)
    columns = (
        progress.TextColumn("fetching"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
    )
    with progress.Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("fetching", total=None)
        yield lambda done, size: bar.update(task, completed=done, total=size or None)
