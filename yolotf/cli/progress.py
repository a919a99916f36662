"""Progress on stderr: a module of its own, since rich takes a tenth of a second to import."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TextIO

from rich import progress
from rich.console import Console


class Counter:
    """How many are done; says nothing without a bar."""

    def __init__(self, bar: progress.Progress | None, total: int | None) -> None:
        self._bar = bar
        self._total = total
        self._task = progress.TaskID(0) if bar is None else bar.add_task("", total=total)

    def expect(self, more: float) -> None:
        """So many more than was known: a video's frames, 0 or less where nobody knows."""
        if self._bar is not None and more > 0:
            self._total = (self._total or 0) + int(more)
            self._bar.update(self._task, total=self._total)

    def step(self, count: int = 1) -> None:
        """So many more are done."""
        if self._bar is not None:
            self._bar.advance(self._task, count)


@contextlib.contextmanager
def counted(total: int | None) -> Iterator[Counter]:
    """Counts up to `total`, if stderr is a terminal."""
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
        # Rich would send to stderr what is meant for a file or a pipe.
        redirect_stdout=sys.stdout.isatty(),
    ) as bar:
        yield Counter(bar, total)


@contextlib.contextmanager
def stages(stream: TextIO, total: int) -> Iterator[Callable[[str], None]]:
    """Is told each of `total` stages by name; lines where `stream` is no terminal."""
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
    """Is told bytes done and in all, 0 where that is not known; shown on a terminal."""
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
