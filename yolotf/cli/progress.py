"""Progress bars on stderr. Imported late: importing rich takes 0.1 s."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TextIO

from rich import progress
from rich.console import Console

from yolotf.cli.messages import say
from yolotf.progress import Progress


class Counter:
    """Counts finished items; without a bar, prints nothing."""

    def __init__(self, bar: progress.Progress | None, total: int | None) -> None:
        self._bar = bar
        self._total = total
        self._task = progress.TaskID(0) if bar is None else bar.add_task("", total=total)

    def expect(self, count: float) -> None:
        """Raises the total by `count`, such as a video's number of frames; ignores 0 and less."""
        if self._bar is not None and count > 0:
            self._total = (self._total or 0) + int(count)
            self._bar.update(self._task, total=self._total)

    def progress(self, stage: str, done: int, total: int) -> None:
        """Shows `done` of `total`; a `yolotf.progress.Progress`."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total)

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
def stages(stream: TextIO) -> Iterator[Progress]:
    """Yields a callback that shows a bar for each stage, or prints a line if not on a terminal."""
    console = Console(file=stream)
    stage_shown = ""
    if not console.is_terminal:

        def print_stage(stage: str, done: int, total: int) -> None:
            nonlocal stage_shown
            if stage != stage_shown:
                stage_shown = stage
                say(f"{stage} ...", stream)

        yield print_stage
        return
    columns = (
        progress.SpinnerColumn(),
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.TimeElapsedColumn(),
    )
    with progress.Progress(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task("reading", total=None)
        yield lambda stage, done, total: bar.update(
            task, description=stage, completed=done, total=total or None
        )


@contextlib.contextmanager
def downloading() -> Iterator[Progress]:
    """Yields a callback that shows the progress of a download on a terminal."""
    console = Console(stderr=True)
    columns = (
        progress.TextColumn("downloading"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
    )
    with progress.Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("downloading", total=None)
        yield lambda stage, done, total: bar.update(task, completed=done, total=total or None)
