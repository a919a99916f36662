"""Which explanation of a file its own numbers speak for.

Every explanation is a layout of the file's floats; `_content.Evidence` weighs them, and an
explanation's `oddity` speaks against it where the numbers say little.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import numpy as np

from yolotf.darknet.stored import NORMALIZED
from yolotf.diagnosis.edits import Edit, Graph
from yolotf.weights.content import Evidence, Run
from yolotf.weights.known import Match, Stored


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
        kind: as_is, edit, known, partial, truncated, trailing, swapped, moved, shifted.
        oddity: nats against it before the content is looked at.
        weight: nats for it in the content.
        layout: gives what it says the file holds, which may go on beyond the file's end.
        place: where the network's layout stops being the file's; None if it never does.
        edit: for `edit`, the change.
        match: for `known`, the network whose file it is.
        layers: for `partial` the fewest and the most layers the file may have been cut after;
            for `swapped` the two layers; for `moved` the layer, and the one it stands before.
        floats: for `shifted`, `swapped` and `moved`, how many more the file has at `place`.
        header_bytes: how the header was read.
    """

    kind: str
    oddity: float
    weight: float
    layout: Callable[[], Sequence[Run]] = field(repr=False, compare=False)
    place: Place | None = None
    edit: Edit | None = None
    match: Match | None = None
    layers: tuple[int, ...] = ()
    floats: int = 0
    header_bytes: int = 0

    @property
    def score(self) -> float:
        """What explanations are compared by."""
        return self.weight - self.oddity

    @property
    def exact(self) -> bool:
        """Whether it accounts for every float of the file and leaves nothing to chance."""
        return self.kind in ("as_is", "known", "partial") or (
            self.edit is not None and self.edit.what in _OF_THE_WHOLE
        )

    def impossible(self, evidence: Evidence) -> float:
        """Share of the numbers it takes for variances that no variance can be."""
        variances = [
            run
            for run in self.layout()
            if run.role == "moving_variance" and run.end <= evidence.floats
        ]
        count = sum(run.floats for run in variances)
        return sum(evidence.impossible(run) for run in variances) / max(1, count)


def explain(
    evidence: Evidence,
    runs: Sequence[Run],
    graph: Graph | None = None,
    matches: Sequence[Match] = (),
    *,
    exact: bool = False,
) -> list[Explanation]:
    """All explanations of the file, the likeliest first.

    Args:
        evidence: the file.
        runs: the network's layout.
        graph: the network, if there is one to edit.
        matches: known networks of the file's size.
        exact: only those that are `Explanation.exact`.
    """
    blocks = _Blocks(evidence, runs)
    difference = evidence.floats - blocks.end
    found = [*_unchanged(blocks, difference), *_known(blocks, matches)]
    if exact:
        if difference and graph is not None:
            edits = (e for e in graph.edits(evidence.floats) if e.what in _OF_THE_WHOLE)
            found += _edited(blocks, graph, edits)
        found = [each for each in found if each.exact]
    elif difference:
        if graph is not None:
            found += _edited(blocks, graph, graph.edits(evidence.floats))
            supported = [each for each in found if each.weight > 0]
            if supported and not any(each.exact or each.edit for each in supported):
                # Nothing alone explains it, and the numbers have something to say.
                found += _edited(blocks, graph, graph.edits_and_classes(evidence.floats))
        found += _shifted(blocks, [difference], oddity=24.0)
    elif not evidence.rest:
        found += _reordered(blocks)
        found += _shifted(blocks, _shifts(blocks), oddity=10.0)
    found = [replace(each, header_bytes=evidence.header_bytes) for each in found]
    return sorted(found, key=lambda explanation: -explanation.score)


_OF_THE_WHOLE = ("classes", "channels", "heads")
"""Edits of the whole network rather than of one layer."""


class _Blocks:
    """The network's layers as blocks, each weighed wherever it is asked for."""

    def __init__(self, evidence: Evidence, runs: Sequence[Run]) -> None:
        self.evidence = evidence
        self.runs = runs
        self.blocks: list[list[Run]] = [
            list(group) for _, group in itertools.groupby(runs, key=lambda run: run.layer)
        ]
        self.layers = [block[0].layer for block in self.blocks]
        self.starts = [block[0].start for block in self.blocks]
        self.lengths = [block[-1].end - block[0].start for block in self.blocks]
        self.shapes = [[(run.role, run.floats) for run in block] for block in self.blocks]
        self.end = runs[-1].end if runs else 0
        self.here = [self.at(index, start) for index, start in enumerate(self.starts)]

    def __len__(self) -> int:
        return len(self.blocks)

    def at(self, index: int, start: int) -> float:
        """Nats for block `index` standing at float `start`."""
        moved = start - self.starts[index]
        return sum(
            self.evidence.gain(run.role, run.start + moved, run.floats)
            for run in self.blocks[index]
        )

    def placed(self, index: int, start: int) -> list[Run]:
        """Block `index` standing at float `start`."""
        moved = start - self.starts[index]
        return [run._replace(start=run.start + moved) for run in self.blocks[index]]

    def possible(self, index: int, start: int) -> bool:
        """Whether block `index` would have a variance that is one, standing at float `start`."""
        moved = start - self.starts[index]
        return all(
            not self.evidence.impossible(run._replace(start=run.start + moved))
            for run in self.blocks[index]
            if run.role == "moving_variance"
        )

    def place(self, index: int) -> Place:
        """Where block `index` starts."""
        return _place(self.blocks[index][0])

    def suspicious(self) -> int:
        """The first block with a variance that is none; their number if there is no such."""
        return next(
            (
                index
                for index, block in enumerate(self.blocks)
                for run in block
                if run.role == "moving_variance" and self.evidence.impossible(run)
            ),
            len(self),
        )


def _place(run: Run) -> Place:
    return Place(run.layer, run.role, run.start)


def _unchanged(blocks: _Blocks, difference: int) -> Iterator[Explanation]:
    """The network as it is, with the file's end wherever it is."""
    weight = sum(blocks.here)
    rest = blocks.evidence.rest
    if difference == 0 and not rest:
        yield Explanation("as_is", 0.0, weight, lambda: blocks.runs)
    elif difference >= 0:
        # Bytes that are no whole float belong to no layer.
        odd = 14.0 if difference else 2.0
        yield Explanation("trailing", odd, weight, lambda: blocks.runs)
    else:
        end = blocks.end + difference
        last = _place(next(run for run in blocks.runs if run.end > end))
        kind, odd, layers = "truncated", 7.0, tuple[int, ...]()
        if end in blocks.starts[1:] and not rest:
            index = blocks.starts.index(end)
            kind, odd, layers = "partial", 2.0, (blocks.layers[index - 1] + 1, blocks.layers[index])
        yield Explanation(kind, odd, weight, lambda: blocks.runs, last, layers=layers)


def _known(blocks: _Blocks, matches: Sequence[Match]) -> Iterator[Explanation]:
    """Another network that people pass around."""
    for match in matches:
        rows = match.architecture.at(match.classes, match.channels)
        layout = stored_runs(rows, match.layers)
        yield Explanation(
            "known",
            4.0 + match.oddity,
            blocks.evidence.weigh(layout),
            partial(list, layout),
            _parting(blocks.runs, layout),
            match=match,
        )


def _edited(blocks: _Blocks, graph: Graph, edits: Iterable[Edit]) -> Iterator[Explanation]:
    """This network with a change."""
    for edit in edits:
        layout = graph.runs(edit.overrides)
        if layout is None or layout[-1].end != blocks.evidence.floats:
            continue
        place = _parting(blocks.runs, layout)
        if place is not None:
            weight = blocks.evidence.weigh(layout)
            yield Explanation("edit", edit.oddity, weight, partial(list, layout), place, edit)


def stored_runs(rows: Sequence[Stored], layers: int | None = None) -> list[Run]:
    """The layout of what `rows` store, up to and without layer `layers`."""
    found: list[Run] = []
    start = 0
    for row in rows:
        if layers is not None and row.layer >= layers:
            break
        own: list[tuple[str, int]] = [("weights", row.kernel)]
        if row.filters:
            own = [(role, row.filters) for role in NORMALIZED[:-1]]
            if not row.batch_normalize:
                own = [("bias", row.filters)]
            own.append(("kernel", row.kernel))
        for role, floats in own:
            found.append(Run(row.layer, role, start, floats))
            start += floats
    return found


def _parting(model: Sequence[Run], file: Sequence[Run]) -> Place | None:
    """The first run of `model` that `file` does not have; None if it has all."""
    for index, run in enumerate(model):
        if index >= len(file) or run != file[index]:
            return _place(run)
    return None


_HOPELESS = -50.0
"""Nats below which a layer does not stand in a place, whatever stands around it."""


def _reordered(blocks: _Blocks) -> Iterator[Explanation]:
    """Two layers in each other's place, or one that stands elsewhere.

    The first of them stands little before the first variance that is none.
    """
    suspect = blocks.suspicious()
    for first in range(max(0, suspect - 6), min(suspect + 2, len(blocks))):
        here = blocks.starts[first]
        for last in range(first + 1, len(blocks)):
            if blocks.shapes[first] == blocks.shapes[last]:
                continue
            between = list(range(first + 1, last))
            if blocks.possible(last, here) and blocks.at(last, here) > _HOPELESS:
                yield _ordered(blocks, "swapped", [last, *between, first], (first, last))
                if between:
                    yield _ordered(blocks, "moved", [last, first, *between], (last, first))
            if between and blocks.possible(first + 1, here):
                after = min(last + 1, len(blocks) - 1)
                yield _ordered(blocks, "moved", [*between, last, first], (first, after))


def _ordered(
    blocks: _Blocks, kind: str, order: Sequence[int], named: tuple[int, int]
) -> Explanation:
    """The file with the blocks of `order` rearranged so, and all others where they are."""
    first = min(order)
    starts = dict(enumerate(blocks.starts))
    start = blocks.starts[first]
    for index in order:
        starts[index] = start
        start += blocks.lengths[index]

    def layout() -> list[Run]:
        by_start = sorted(starts, key=lambda index: starts[index])
        return [run for index in by_start for run in blocks.placed(index, starts[index])]

    weight = sum(blocks.here) + sum(
        blocks.at(index, starts[index]) - blocks.here[index] for index in order
    )
    return Explanation(
        kind,
        8.0 if kind == "swapped" else 9.0,
        weight,
        layout,
        blocks.place(first),
        layers=tuple(blocks.layers[index] for index in named),
        floats=blocks.lengths[order[0]] - blocks.lengths[first],
    )


def _shifted(blocks: _Blocks, shifts: Sequence[int], oddity: float) -> Iterator[Explanation]:
    """Floats added or lost somewhere: from one array on, all stand `shift` floats later."""
    gain, runs = blocks.evidence.gain, blocks.runs
    if not runs:
        return
    here = [gain(run.role, run.start, run.floats) for run in runs]
    before = np.concatenate([[0.0], np.cumsum(here)])[:-1]
    # Without a variance behind it a shift is hard to tell from a file that is too short or long.
    last = max((k for k, run in enumerate(runs) if run.role == "moving_variance"), default=-1)
    # It happened in the array before, and any float may be the one.
    places = np.array([_LOST_BEFORE_FIRST, *(run.floats for run in runs[:-1])])
    before += np.log(places / places.sum())
    for shift in shifts:
        there = [gain(run.role, run.start + shift, run.floats) for run in runs]
        after = np.cumsum(there[::-1])[::-1]
        room = (places + shift >= 0) & (np.arange(len(runs)) <= last)
        weights = np.where(room, before + after, -np.inf)
        index = int(np.argmax(weights))
        if not room[index]:
            continue

        def layout(index: int = index, shift: int = shift) -> list[Run]:
            return [
                run._replace(start=run.start + shift) if number >= index else run
                for number, run in enumerate(runs)
            ]

        yield Explanation(
            "shifted",
            oddity,
            float(weights[index]),
            layout,
            _place(runs[max(0, index - 1)]),
            floats=shift,
        )


_LOST_BEFORE_FIRST = 1
"""Floats that may be lost before the first array: half of `seen`."""


def _shifts(blocks: _Blocks) -> list[int]:
    """How far the file may be shifted where the network's variances stop being any."""
    suspect = blocks.suspicious()
    found = {-1, 1}
    if suspect < len(blocks):
        found |= _variance_shifts(blocks, suspect)
    return sorted(found)


_REACH = 1 << 20
_MOST_PLACES = 4000


def _variance_shifts(blocks: _Blocks, suspect: int) -> set[int]:
    """Shifts that put the variance of block `suspect` on positive numbers before a kernel."""
    run = next(run for run in blocks.blocks[suspect] if run.role == "moving_variance")
    start = max(0, run.start - _REACH)
    values = blocks.evidence.read(start, run.end - start + _REACH)
    if values.size <= run.floats:
        return set()
    positive = np.concatenate([[0], np.cumsum(values > 0)])
    full = positive[run.floats :] - positive[: -run.floats] == run.floats
    # The kernel that follows has both signs: runs of positives end where the variance does.
    ends = np.flatnonzero(full[:-1] & ~full[1:])
    shifts = ends + start - run.start
    nearest = sorted((int(shift) for shift in shifts if shift), key=abs)[:_MOST_PLACES]
    scored = sorted(
        ((blocks.at(suspect, blocks.starts[suspect] + shift), shift) for shift in nearest),
        reverse=True,
    )
    return {shift for gain, shift in scored[:6] if gain > 0}


def first_impossible(evidence: Evidence, runs: Sequence[Run]) -> Place | None:
    """The first variance of the file with a number that none can be."""
    for run in runs:
        if run.role == "moving_variance":
            values = evidence.read(run.start, run.floats)
            if not (np.isfinite(values) & (values >= 0)).all():
                return _place(run)
    return None


def last_supported(evidence: Evidence, runs: Sequence[Run]) -> Place | None:
    """Up to where the numbers bear the network's layout out: the layer after that."""
    if not runs:
        return None
    blocks = _Blocks(evidence, runs)
    reached = np.concatenate([[0.0], np.cumsum(blocks.here)])
    index = int(np.argmax(reached))
    return blocks.place(index) if index < len(blocks) else None
