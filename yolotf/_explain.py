"""Which explanation of a file its own numbers speak for.

Every explanation is a layout of the file's floats; `_content.Evidence` weighs them, and an
explanation's `oddity` speaks against it where the numbers say little.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from yolotf._content import Evidence, Run
from yolotf._edits import Edit, Graph, first_difference


class Place(NamedTuple):
    """A point of the network's own layout: where file and network part."""

    layer: int
    role: str
    start: int
    """Floats from the end of the header."""


@dataclass(frozen=True)
class Explanation:
    """One way file and network can belong together.

    Attributes:
        kind: as_is, edit, partial, truncated, trailing, swapped, moved, shifted.
        oddity: nats against it.
        weight: nats for it; set by `weigh`.
        place: where the network's layout stops being the file's; None if it never does.
        edit: for `edit`.
        layers: for `partial` how many; for `swapped` and `moved` the two layers.
        floats: for `shifted` how many more the file has there than the network.
    """

    kind: str
    oddity: float
    weight: float = 0.0
    place: Place | None = None
    edit: Edit | None = None
    layers: tuple[int, ...] = ()
    floats: int = 0

    @property
    def score(self) -> float:
        """What explanations are compared by."""
        return self.weight - self.oddity


def explain(evidence: Evidence, runs: Sequence[Run], graph: Graph | None) -> list[Explanation]:
    """All explanations of the file, the likeliest first.

    Args:
        evidence: the file.
        runs: the network's layout.
        graph: the network, if there is one to edit.
    """
    blocks = _Blocks(evidence, runs)
    found = list(_explanations(evidence, runs, graph, blocks))
    return sorted(found, key=lambda explanation: -explanation.score)


def _explanations(
    evidence: Evidence, runs: Sequence[Run], graph: Graph | None, blocks: _Blocks
) -> Iterator[Explanation]:
    difference = evidence.floats - blocks.end
    as_is = sum(blocks.here)
    if difference == 0:
        yield Explanation("as_is", 0.0, as_is)
        yield from _reordered(blocks)
        yield from _shifted(blocks, _shifts(evidence, blocks), oddity=14.0)
        return
    if difference > 0:
        yield Explanation("trailing", 14.0, as_is, Place(-1, "", blocks.end))
    else:
        last = next(run for run in runs if run.end > evidence.floats)
        place = Place(last.layer, last.role, last.start)
        whole = blocks.starts.index(evidence.floats) if evidence.floats in blocks.starts else 0
        if whole:
            layers = blocks.layers[whole - 1] + 1
            yield Explanation("partial", 2.0, as_is, place, layers=(layers,))
        else:
            yield Explanation("truncated", 7.0, as_is, place)
    if graph is not None:
        for edit in graph.edits(evidence.floats):
            layout = graph.runs(edit.overrides)
            if layout is None or layout[-1].end != evidence.floats:
                continue
            first = first_difference(list(runs), layout)
            if first is None:
                continue
            run, start = first
            yield Explanation(
                "edit",
                edit.oddity,
                evidence.weigh(layout),
                Place(run.layer, run.role, start),
                edit,
            )
    yield from _shifted(blocks, [difference], oddity=22.0)


class _Blocks:
    """The network's layers as blocks, each weighed wherever it is asked for."""

    def __init__(self, evidence: Evidence, runs: Sequence[Run]) -> None:
        self.evidence = evidence
        self.runs: list[list[Run]] = [
            list(group) for _, group in itertools.groupby(runs, key=lambda run: run.layer)
        ]
        self.layers = [block[0].layer for block in self.runs]
        self.starts = [block[0].start for block in self.runs]
        self.lengths = [block[-1].end - block[0].start for block in self.runs]
        self.end = runs[-1].end if runs else 0
        self.here = [self.at(index, start) for index, start in enumerate(self.starts)]

    def at(self, index: int, start: int) -> float:
        """Nats for block `index` standing at float `start`."""
        moved = start - self.starts[index]
        return sum(
            self.evidence.gain(run.role, run.start + moved, run.floats) for run in self.runs[index]
        )

    def place(self, index: int) -> Place:
        """Where block `index` starts."""
        run = self.runs[index][0]
        return Place(run.layer, run.role, run.start)

    def kernel_before(self, index: int) -> Place:
        """The kernel before block `index`: floats added or lost there shift that block."""
        if not index:
            return self.place(0)
        run = self.runs[index - 1][-1]
        return Place(run.layer, run.role, run.start)

    def suspicious(self) -> int:
        """The first block whose variance is not one."""
        for index, block in enumerate(self.runs):
            for run in block:
                if run.role == "moving_variance":
                    values = self.evidence.read(run.start, run.floats)
                    if not (np.isfinite(values) & (values >= 0)).all():
                        return index
        return len(self.runs)


def _reordered(blocks: _Blocks) -> Iterator[Explanation]:
    """Two layers that changed places, or one that stands elsewhere."""
    suspect = blocks.suspicious()
    count = len(blocks.runs)
    before = np.concatenate([[0.0], np.cumsum(blocks.here)])
    for first in range(max(0, suspect - 6), min(suspect + 2, count)):
        start, length = blocks.starts[first], blocks.lengths[first]
        for last in range(first + 1, count):
            end = blocks.starts[last] + blocks.lengths[last]
            rest = before[first] + before[count] - before[last + 1]
            inside = range(first + 1, last)
            own = blocks.lengths[last]
            if blocks.runs[first] == blocks.runs[last]:
                continue
            # last at the place of first
            moved = blocks.at(last, start)
            if moved > 0 and own != length:
                weight = rest + moved + blocks.at(first, end - length)
                weight += sum(blocks.at(k, blocks.starts[k] + own - length) for k in inside)
                yield Explanation(
                    "swapped",
                    8.0,
                    weight,
                    blocks.place(first),
                    layers=(blocks.layers[first], blocks.layers[last]),
                )
            if moved > 0 and last > first + 1:
                weight = (
                    rest
                    + moved
                    + sum(blocks.at(k, blocks.starts[k] + own) for k in range(first, last))
                )
                yield Explanation(
                    "moved",
                    9.0,
                    weight,
                    blocks.place(first),
                    layers=(blocks.layers[last], blocks.layers[first]),
                )
        # first behind some later block: all between move up
        ahead = 0.0
        for last in range(first + 1, count):
            ahead += blocks.at(last, blocks.starts[last] - length)
            if ahead < 0:
                break
            if last == first + 1:
                continue
            end = blocks.starts[last] + blocks.lengths[last]
            weight = before[first] + ahead + blocks.at(first, end - length)
            weight += before[count] - before[last + 1]
            yield Explanation(
                "moved",
                9.0,
                weight,
                blocks.place(first),
                layers=(blocks.layers[first], blocks.layers[last]),
            )


def _shifted(blocks: _Blocks, shifts: Sequence[int], oddity: float) -> Iterator[Explanation]:
    """Floats added or lost somewhere: from one block on, all stand `shift` floats later."""
    count = len(blocks.runs)
    before = np.concatenate([[0.0], np.cumsum(blocks.here)])
    for shift in shifts:
        there = np.array([blocks.at(k, blocks.starts[k] + shift) for k in range(count)])
        after = np.concatenate([np.cumsum(there[::-1])[::-1], [0.0]])
        index = int(np.argmax((before + after)[:count]))
        yield Explanation(
            "shifted",
            oddity,
            float(before[index] + after[index]),
            blocks.kernel_before(index),
            floats=shift,
        )


def _shifts(evidence: Evidence, blocks: _Blocks) -> list[int]:
    """How far the file may be shifted where the network's variances stop being any."""
    suspect = blocks.suspicious()
    found = {-1, 1}
    if suspect < len(blocks.runs):
        found |= _variance_shifts(evidence, blocks, suspect)
    return sorted(found)


_REACH = 1 << 20


def _variance_shifts(evidence: Evidence, blocks: _Blocks, suspect: int) -> set[int]:
    """Shifts that put the variance of block `suspect` on positive numbers before a kernel."""
    run = next(run for run in blocks.runs[suspect] if run.role == "moving_variance")
    start = max(0, run.start - _REACH)
    values = evidence.read(start, run.end - start + _REACH)
    if values.size <= run.floats:
        return set()
    positive = np.concatenate([[0], np.cumsum(values > 0)])
    full = positive[run.floats :] - positive[: -run.floats] == run.floats
    # The kernel that follows has both signs: runs of positives end where the variance does.
    ends = np.flatnonzero(full[:-1] & ~full[1:])
    shifts = ends + start - run.start
    scored = sorted(
        ((blocks.at(suspect, blocks.starts[suspect] + int(s)), int(s)) for s in shifts[:4000] if s),
        reverse=True,
    )
    return {shift for gain, shift in scored[:6] if gain > 0}
