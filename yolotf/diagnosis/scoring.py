"""Finds all explanations of a file and scores them by the file's values.

An explanation is a layout of the file's floats. `Evidence` gives its log-likelihood ratio; its
`unlikeliness` decides where the values say little. A layout that differs from the network's in a
few layers is scored in these layers only: the sums over all others are computed once for each
shift.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from yolotf.darknet.roles import NORMALIZED, PLAIN, Role
from yolotf.diagnosis import mutations, priors, section_mutations
from yolotf.diagnosis.channel_flow import ChannelFlow
from yolotf.diagnosis.edit import Edit, Option
from yolotf.diagnosis.hypotheses import (
    AsIs,
    Edited,
    Explanation,
    Known,
    Moved,
    Partial,
    Place,
    Shifted,
    Swapped,
    Trailing,
    Truncated,
)
from yolotf.weights.catalog import LayerFloats, Match
from yolotf.weights.likelihood import Evidence
from yolotf.weights.statistics import Run


def explain(
    evidence: Evidence,
    runs: Sequence[Run],
    flow: ChannelFlow | None = None,
    matches: Sequence[Match] = (),
    *,
    exact: bool = False,
) -> list[Explanation]:
    """Returns all explanations of the file, likeliest first.

    Args:
        evidence: the values of the file.
        runs: the network's layout.
        flow: the network, to try changes of it; None to try none.
        matches: known networks of the file's size.
        exact: whether to return only explanations that are `Explanation.exact`.
    """
    blocks = _Blocks(evidence, runs)
    difference = evidence.floats - blocks.end
    found = [*_unchanged(blocks, difference), *_known(blocks, matches)]
    if exact:
        if difference and flow is not None:
            edits = (e for e in _all_edits(flow, evidence.floats, matches) if e.of_the_whole)
            found += _edited(blocks, flow, edits)
        found = [each for each in found if each.exact]
    elif difference:
        if flow is not None:
            found += _edited(blocks, flow, _all_edits(flow, evidence.floats, matches))
            supported = [each for each in found if each.weight > 0]
            if supported and not any(each.exact or isinstance(each, Edited) for each in supported):
                # No single change explains the file, but the values are informative.
                found += _edited(blocks, flow, mutations.edits_and_classes(flow, evidence.floats))
        found += _shifted(blocks, [difference], unlikeliness=priors.SHIFTED_SIZE)
    elif not evidence.rest:
        found += _reordered(blocks)
        found += _shifted(blocks, _shifts(blocks), unlikeliness=priors.SHIFTED)
    found = [replace(each, header_bytes=evidence.header_bytes) for each in found]
    return sorted(found, key=lambda explanation: -explanation.score)


def _all_edits(flow: ChannelFlow, floats: int, matches: Sequence[Match]) -> Iterator[Edit]:
    """Yields every change of the network after which it stores `floats` floats."""
    yield from mutations.edits(flow, floats)
    yield from section_mutations.edits(flow, floats, matches)


_MOST_WEIGHED = 300
"""The most layers that are scored; no known network has as many with weights. Further layers are
ignored, so that a hostile cfg with very many layers costs hardly more."""


class _Blocks:
    """The network's layers as blocks of runs, which can be scored at any position."""

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
        self._sums: dict[int, npt.NDArray[np.float64]] = {}

    def __len__(self) -> int:
        return len(self.blocks)

    def at(self, index: int, start: int) -> float:
        """Returns the log-likelihood ratio, in nats, of block `index` at float `start`."""
        if index >= _MOST_WEIGHED:
            return 0.0
        moved = start - self.starts[index]
        return sum(
            self.evidence.array_ratio(run.role, run.start + moved, run.floats)
            for run in self.blocks[index]
        )

    def sums(self, shift: int = 0) -> npt.NDArray[np.float64]:
        """Returns the nats for the first 0, 1, 2, ... blocks, shifted by `shift` floats."""
        if shift not in self._sums:
            each = [self.at(index, start + shift) for index, start in enumerate(self.starts)]
            self._sums[shift] = np.concatenate([[0.0], np.cumsum(each)])
        return self._sums[shift]

    @property
    def here(self) -> float:
        """The nats for the whole network without a shift."""
        return float(self.sums()[-1])

    def placed(self, index: int, start: int) -> list[Run]:
        """Returns the runs of block `index` moved to float `start`."""
        moved = start - self.starts[index]
        return [run._replace(start=run.start + moved) for run in self.blocks[index]]

    def possible(self, index: int, start: int) -> bool:
        """Returns whether block `index` has only possible variances at float `start`."""
        moved = start - self.starts[index]
        return all(
            not self.evidence.impossible(run._replace(start=run.start + moved))
            for run in self.blocks[index]
            if run.role == "moving_variance"
        )

    def place(self, index: int) -> Place:
        """Returns where block `index` starts."""
        return _place(self.blocks[index][0])

    def suspicious(self) -> int:
        """Returns the first block with an impossible variance; the number of blocks if none."""
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
    """Yields the explanation for the unchanged network, given where the file ends."""
    weight, rest = blocks.here, blocks.evidence.rest

    def layout() -> Sequence[Run]:
        return blocks.runs

    if difference == 0 and not rest:
        yield AsIs(unlikeliness=priors.UNCHANGED, weight=weight, layout=layout)
    elif difference >= 0:
        unlikeliness = priors.TRAILING if difference else priors.TRAILING_REST
        yield Trailing(unlikeliness=unlikeliness, weight=weight, layout=layout)
    else:
        end = blocks.end + difference
        last = _place(next(run for run in blocks.runs if run.end > end))
        if end in blocks.starts[1:] and not rest:
            index = blocks.starts.index(end)
            layers = (blocks.layers[index - 1] + 1, blocks.layers[index])
            yield Partial(
                unlikeliness=priors.PARTIAL, weight=weight, layout=layout, place=last, layers=layers
            )
        else:
            yield Truncated(
                unlikeliness=priors.TRUNCATED,
                weight=weight,
                layout=layout,
                place=last,
                cut=_borne_out_to(blocks, end),
            )


def _borne_out_to(blocks: _Blocks, end: int) -> bool:
    """Returns whether the values of all layers that end before float `end` support the network."""
    complete = sum(
        start + length <= end for start, length in zip(blocks.starts, blocks.lengths, strict=True)
    )
    sums = blocks.sums()[: complete + 1]
    return bool(sums[-1] > 0 and sums[-1] >= sums.max() - priors.CUT_TOLERANCE)


def _known(blocks: _Blocks, matches: Sequence[Match]) -> Iterator[Explanation]:
    """Yields explanations by other known networks."""
    for match in matches:
        rows = match.architecture.at(match.classes, match.channels)
        layout = stored_runs(rows, match.layers)
        yield Known(
            unlikeliness=priors.KNOWN + match.unlikeliness,
            weight=blocks.evidence.log_likelihood_ratio(layout),
            layout=partial(list, layout),
            place=_parting(blocks.runs, layout),
            match=match,
        )


def _edited(blocks: _Blocks, flow: ChannelFlow, edits: Iterable[Edit]) -> Iterator[Explanation]:
    """Yields explanations by changes of this network."""
    block_of = {layer: index for index, layer in enumerate(blocks.layers)}
    floats = blocks.evidence.floats
    for edit in edits:
        if edit.resolved is not None:
            # What the network lacks may come after its last array.
            beyond = edit.resolved[len(blocks.runs) :]
            place = _parting(blocks.runs, edit.resolved) or (_place(beyond[0]) if beyond else None)
            weight = blocks.evidence.log_likelihood_ratio(edit.resolved)
            layout: Callable[[], list[Run]] = partial(list, edit.resolved)
        else:
            changed = flow.changed(edit.overrides) if edit.stored is None else edit.stored
            if not changed:
                continue
            touched = [block_of[layer] for layer in changed]
            first, last = min(touched), max(touched)
            weight, start = float(blocks.sums()[first]), blocks.starts[first]
            for index in range(first, last + 1):
                for role, count in changed.get(blocks.layers[index], blocks.shapes[index]):
                    if index < _MOST_WEIGHED:
                        weight += blocks.evidence.array_ratio(role, start, count)
                    start += count
            end = blocks.starts[last] + blocks.lengths[last]
            if blocks.end + start - end != floats:
                continue
            after = blocks.sums(start - end)
            weight += float(after[-1] - after[last + 1])
            place = _parting_in(blocks.blocks[first], changed[blocks.layers[first]])
            if edit.what in (Option.MISSING, Option.ADDED):
                place = blocks.place(block_of[edit.layer])
            layout = partial(flow.layout, changed)
        if place is not None:
            yield Edited(
                unlikeliness=edit.unlikeliness,
                weight=weight,
                layout=layout,
                place=place,
                edit=edit,
            )


def _parting_in(block: Sequence[Run], stored: Sequence[tuple[str, int]]) -> Place:
    """Returns the first run of a layer that differs from `stored`."""
    for run, (role, count) in zip(block, stored, strict=False):
        if (run.role, run.floats) != (role, count):
            return _place(run)
    return _place(block[min(len(stored), len(block) - 1)])


def stored_runs(rows: Sequence[LayerFloats], layers: int | None = None) -> list[Run]:
    """Returns the layout of what `rows` store, up to but excluding layer `layers`."""
    found: list[Run] = []
    start = 0
    for row in rows:
        if layers is not None and row.layer >= layers:
            break
        roles = NORMALIZED if row.batch_normalize else PLAIN
        for role in roles if row.filters else (Role.WEIGHTS,):
            floats = row.kernel if role in (Role.KERNEL, Role.WEIGHTS) else row.filters
            found.append(Run(row.layer, role, start, floats))
            start += floats
    return found


def _parting(model: Sequence[Run], file: Sequence[Run]) -> Place | None:
    """Returns the first run of `model` that differs from `file`; None if there is none."""
    for index, run in enumerate(model):
        if index >= len(file) or run != file[index]:
            return _place(run)
    return None


_FARTHEST = 128
"""The largest distance, in layers, over which swapped layers are looked for."""
_MOST_ORDERS = 24


def _reordered(blocks: _Blocks) -> Iterator[Explanation]:
    """Yields explanations by two swapped layers, or by a layer at another position.

    The first moved layer is shortly before the first impossible variance. Only the orders whose
    moved layers score best at their new positions are scored as a whole.
    """
    likely = heapq.nlargest(_MOST_ORDERS, _orders(blocks, blocks.suspicious()), key=_gain)
    for _, kind, order, named in likely:
        yield _ordered(blocks, kind, order, named)


class _Order(NamedTuple):
    """Blocks in another order, and the score (`gain`, nats) of those moved at their positions."""

    gain: float
    kind: type[Swapped] | type[Moved]
    blocks: tuple[int, ...]
    named: tuple[int, int]


def _gain(order: _Order) -> float:
    return order.gain


def _orders(blocks: _Blocks, suspect: int) -> Iterator[_Order]:
    """Yields every order in which the first moved block is possible at its position."""
    at, starts, lengths = blocks.at, blocks.starts, blocks.lengths
    for first in range(max(0, suspect - 6), min(suspect + 2, len(blocks))):
        here = starts[first]
        for last in range(first + 1, min(len(blocks), first + _FARTHEST)):
            if blocks.shapes[first] == blocks.shapes[last]:
                continue
            between = tuple(range(first + 1, last))
            there = starts[last] + lengths[last] - lengths[first]
            if blocks.possible(last, here) and (gain := at(last, here)) > priors.HOPELESS:
                swapped = gain + at(first, there)
                yield _Order(swapped, Swapped, (last, *between, first), (first, last))
                if between:
                    moved = gain + at(first, here + lengths[last])
                    yield _Order(moved, Moved, (last, first, *between), (last, first))
            if between and blocks.possible(first + 1, here):
                after = min(last + 1, len(blocks) - 1)
                moved = at(first + 1, here) + at(first, there)
                yield _Order(moved, Moved, (*between, last, first), (first, after))


def _ordered(
    blocks: _Blocks, kind: type[Swapped] | type[Moved], order: Sequence[int], named: tuple[int, int]
) -> Explanation:
    """Returns the explanation in which the blocks of `order` are in this order in the file."""
    first, last = min(order), max(order)

    def starts() -> Iterator[tuple[int, int]]:
        start = blocks.starts[first]
        for index in order:
            yield index, start
            start += blocks.lengths[index]

    def layout() -> list[Run]:
        moved = [run for index, start in starts() for run in blocks.placed(index, start)]
        before, after = blocks.blocks[:first], blocks.blocks[last + 1 :]
        return [*itertools.chain(*before), *moved, *itertools.chain(*after)]

    weight = blocks.here - float(blocks.sums()[last + 1] - blocks.sums()[first])
    weight += sum(blocks.at(index, start) for index, start in starts())
    return kind(
        unlikeliness=priors.SWAPPED if kind is Swapped else priors.MOVED,
        weight=weight,
        layout=layout,
        place=blocks.place(first),
        layers=(blocks.layers[named[0]], blocks.layers[named[1]]),
        floats=blocks.lengths[order[0]] - blocks.lengths[first],
    )


def _shifted(blocks: _Blocks, shifts: Sequence[int], unlikeliness: float) -> Iterator[Explanation]:
    """Yields explanations by added or lost floats: from an array on, all are shifted."""
    ratio = blocks.evidence.array_ratio
    runs = list(itertools.chain(*blocks.blocks[:_MOST_WEIGHED]))
    if not runs:
        return
    here = [ratio(run.role, run.start, run.floats) for run in runs]
    before = np.concatenate([[0.0], np.cumsum(here)])[:-1]
    # Without a variance after it, a shift looks like a file that is too short or too long.
    last = max((k for k, run in enumerate(runs) if run.role == "moving_variance"), default=-1)
    # It happened in the array before, at any of its floats with the same probability.
    places = np.array([_LOST_BEFORE_FIRST, *(run.floats for run in runs[:-1])])
    before += np.log(places / places.sum())
    for shift in shifts:
        there = [ratio(run.role, run.start + shift, run.floats) for run in runs]
        after = np.cumsum(there[::-1])[::-1]
        room = (places + shift >= 0) & (np.arange(len(runs)) <= last)
        weights = np.where(room, before + after, -np.inf)
        index = int(np.argmax(weights))
        if not room[index]:
            continue

        def layout(index: int = index, shift: int = shift) -> list[Run]:
            return [
                run._replace(start=run.start + shift) if number >= index else run
                for number, run in enumerate(blocks.runs)
            ]

        yield Shifted(
            unlikeliness=unlikeliness,
            weight=float(weights[index]),
            layout=layout,
            place=_place(runs[max(0, index - 1)]),
            floats=shift,
        )


_LOST_BEFORE_FIRST = 1
"""The floats that may be lost before the first array: half of `seen`."""


def _shifts(blocks: _Blocks) -> list[int]:
    """Returns possible shifts, in floats, at the first impossible variance."""
    suspect = blocks.suspicious()
    found = {-1, 1}
    if suspect < len(blocks):
        found |= _variance_shifts(blocks, suspect)
    return sorted(found)


_REACH = 1 << 20
_MOST_PLACES = 1500


def _variance_shifts(blocks: _Blocks, suspect: int) -> set[int]:
    """Returns shifts that place the variance of block `suspect` on positive values only."""
    run = next(run for run in blocks.blocks[suspect] if run.role == "moving_variance")
    start = max(0, run.start - _REACH)
    values = blocks.evidence.read(start, run.end - start + _REACH)
    if values.size <= run.floats:
        return set()
    positive = np.concatenate([[0], np.cumsum(values > 0)])
    full = positive[run.floats :] - positive[: -run.floats] == run.floats
    # The kernel that follows has both signs, so a run of positive values ends with the variance.
    ends = np.flatnonzero(full[:-1] & ~full[1:])
    shifts = ends + start - run.start
    nearest = sorted((int(shift) for shift in shifts if shift), key=abs)[:_MOST_PLACES]
    scored = sorted(
        ((blocks.at(suspect, blocks.starts[suspect] + shift), shift) for shift in nearest),
        reverse=True,
    )
    return {shift for gain, shift in scored[:6] if gain > 0}


def last_supported(evidence: Evidence, runs: Sequence[Run]) -> Place | None:
    """Returns the first layer that the values do not support; None if they support all."""
    if not runs:
        return None
    blocks = _Blocks(evidence, runs)
    index = int(np.argmax(blocks.sums()))
    return blocks.place(index) if index < len(blocks) else None
