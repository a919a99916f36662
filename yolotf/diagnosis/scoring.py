"""Finds all explanations of a file and scores them by the file's values.

An explanation is a layout of the file's floats. `Evidence` gives its log-likelihood ratio, the
`support` of the values for it; its `penalty` decides where the values say little. A layout that
differs from the network's in a few layers is scored in these layers only: the sums over all others
are computed once for each shift.
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
    KnownNetwork,
    Moved,
    Partial,
    Shifted,
    Swapped,
    Trailing,
    Truncated,
)
from yolotf.diagnosis.target import Place
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
    explanations = [*_unchanged(blocks, difference), *_known(blocks, matches)]
    if exact:
        if difference and flow is not None:
            edits = _all_edits(flow, evidence.floats, matches)
            explanations += _edited(blocks, flow, (edit for edit in edits if edit.whole_network))
        explanations = [explanation for explanation in explanations if explanation.exact]
    elif difference:
        if flow is not None:
            explanations += _edited(blocks, flow, _all_edits(flow, evidence.floats, matches))
            supported = [explanation for explanation in explanations if explanation.support > 0]
            if supported and not any(
                explanation.exact or isinstance(explanation, Edited) for explanation in supported
            ):
                # No single change explains the file, but the values are informative.
                edits = mutations.edits_and_classes(flow, evidence.floats)
                explanations += _edited(blocks, flow, edits)
        explanations += _shifted(blocks, [difference], penalty=priors.SHIFTED_SIZE)
    elif not evidence.rest:
        explanations += _reordered(blocks)
        explanations += _shifted(blocks, _shifts(blocks), penalty=priors.SHIFTED)
    explanations = [
        replace(explanation, header_bytes=evidence.header_bytes) for explanation in explanations
    ]
    return sorted(explanations, key=lambda explanation: -explanation.score)


def _all_edits(flow: ChannelFlow, floats: int, matches: Sequence[Match]) -> Iterator[Edit]:
    """Yields every change of the network after which it stores `floats` floats."""
    yield from mutations.edits(flow, floats)
    yield from section_mutations.edits(flow, floats, matches)


_MAX_SCORED_LAYERS = 300
"""The most layers that are scored; no known network has as many with weights. Further layers are
ignored, so that a malicious cfg with very many layers costs hardly more."""


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
        self._cumulative_support: dict[int, npt.NDArray[np.float64]] = {}

    def __len__(self) -> int:
        return len(self.blocks)

    def support_at(self, index: int, start: int) -> float:
        """Returns the log-likelihood ratio, in nats, of block `index` at float `start`."""
        if index >= _MAX_SCORED_LAYERS:
            return 0.0
        shift = start - self.starts[index]
        return sum(
            self.evidence.array_ratio(run.role, run.start + shift, run.floats)
            for run in self.blocks[index]
        )

    def cumulative_support(self, shift: int = 0) -> npt.NDArray[np.float64]:
        """Returns the nats for the first 0, 1, 2, ... blocks, shifted by `shift` floats."""
        if shift not in self._cumulative_support:
            support = [
                self.support_at(index, start + shift) for index, start in enumerate(self.starts)
            ]
            self._cumulative_support[shift] = np.concatenate([[0.0], np.cumsum(support)])
        return self._cumulative_support[shift]

    @property
    def support(self) -> float:
        """The nats for the whole network without a shift."""
        return float(self.cumulative_support()[-1])

    def runs_at(self, index: int, start: int) -> list[Run]:
        """Returns the runs of block `index` moved to float `start`."""
        shift = start - self.starts[index]
        return [run._replace(start=run.start + shift) for run in self.blocks[index]]

    def can_start_at(self, index: int, start: int) -> bool:
        """Returns whether block `index` has only possible variances at float `start`."""
        return all(
            not self.evidence.impossible(run)
            for run in self.runs_at(index, start)
            if run.role == "moving_variance"
        )

    def place_of(self, index: int) -> Place:
        """Returns where block `index` starts."""
        return _place(self.blocks[index][0])

    def first_impossible(self) -> int:
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
    support, bytes_left = blocks.support, blocks.evidence.rest

    def layout() -> Sequence[Run]:
        return blocks.runs

    if difference == 0 and not bytes_left:
        yield AsIs(penalty=priors.UNCHANGED, support=support, layout=layout)
    elif difference >= 0:
        penalty = priors.TRAILING if difference else priors.TRAILING_REST
        yield Trailing(penalty=penalty, support=support, layout=layout)
    else:
        end = blocks.end + difference
        incomplete = _place(next(run for run in blocks.runs if run.end > end))
        if end in blocks.starts[1:] and not bytes_left:
            index = blocks.starts.index(end)
            layers = (blocks.layers[index - 1] + 1, blocks.layers[index])
            yield Partial(
                penalty=priors.PARTIAL,
                support=support,
                layout=layout,
                place=incomplete,
                layers=layers,
            )
        else:
            yield Truncated(
                penalty=priors.TRUNCATED,
                support=support,
                layout=layout,
                place=incomplete,
                cut=_supported_up_to(blocks, end),
            )


def _supported_up_to(blocks: _Blocks, end: int) -> bool:
    """Returns whether the values of all layers that end before float `end` support the network."""
    complete = sum(
        start + length <= end for start, length in zip(blocks.starts, blocks.lengths, strict=True)
    )
    sums = blocks.cumulative_support()[: complete + 1]
    return bool(sums[-1] > 0 and sums[-1] >= sums.max() - priors.CUT_TOLERANCE)


def _known(blocks: _Blocks, matches: Sequence[Match]) -> Iterator[Explanation]:
    """Yields explanations by other known networks."""
    for match in matches:
        rows = match.architecture.at(match.classes, match.channels)
        layout = stored_runs(rows, match.layers)
        yield KnownNetwork(
            penalty=priors.KNOWN + match.penalty,
            support=blocks.evidence.log_likelihood_ratio(layout),
            layout=partial(list, layout),
            place=_divergence(blocks.runs, layout),
            match=match,
        )


def _edited(blocks: _Blocks, flow: ChannelFlow, edits: Iterable[Edit]) -> Iterator[Explanation]:
    """Yields explanations by changes of this network."""
    block_of = {layer: index for index, layer in enumerate(blocks.layers)}
    floats = blocks.evidence.floats
    for edit in edits:
        if edit.resolved is not None:
            # What the network lacks may come after its last array.
            appended = edit.resolved[len(blocks.runs) :]
            end_of_network = _place(appended[0]) if appended else None
            place = _divergence(blocks.runs, edit.resolved) or end_of_network
            support = blocks.evidence.log_likelihood_ratio(edit.resolved)
            layout: Callable[[], list[Run]] = partial(list, edit.resolved)
        else:
            changed = flow.changed(edit.overrides) if edit.stored is None else edit.stored
            if not changed:
                continue
            changed_blocks = [block_of[layer] for layer in changed]
            first, last = min(changed_blocks), max(changed_blocks)
            support, start = float(blocks.cumulative_support()[first]), blocks.starts[first]
            for index in range(first, last + 1):
                for role, count in changed.get(blocks.layers[index], blocks.shapes[index]):
                    if index < _MAX_SCORED_LAYERS:
                        support += blocks.evidence.array_ratio(role, start, count)
                    start += count
            end = blocks.starts[last] + blocks.lengths[last]
            if blocks.end + start - end != floats:
                continue
            after = blocks.cumulative_support(start - end)
            support += float(after[-1] - after[last + 1])
            place = _divergence_in_layer(blocks.blocks[first], changed[blocks.layers[first]])
            if edit.option in (Option.MISSING, Option.ADDED):
                place = blocks.place_of(block_of[edit.layer])
            layout = partial(flow.layout, changed)
        if place is not None:
            yield Edited(
                penalty=edit.penalty, support=support, layout=layout, place=place, edit=edit
            )


def _divergence_in_layer(block: Sequence[Run], stored: Sequence[tuple[str, int]]) -> Place:
    """Returns the first run of a layer that differs from `stored`."""
    for run, (role, count) in zip(block, stored, strict=False):
        if (run.role, run.floats) != (role, count):
            return _place(run)
    return _place(block[min(len(stored), len(block) - 1)])


def stored_runs(rows: Sequence[LayerFloats], layers: int | None = None) -> list[Run]:
    """Returns the layout of what `rows` store, up to but excluding layer `layers`."""
    runs: list[Run] = []
    start = 0
    for row in rows:
        if layers is not None and row.layer >= layers:
            break
        roles = NORMALIZED if row.batch_normalize else PLAIN
        for role in roles if row.filters else (Role.WEIGHTS,):
            floats = row.kernel if role in (Role.KERNEL, Role.WEIGHTS) else row.filters
            runs.append(Run(row.layer, role, start, floats))
            start += floats
    return runs


def _divergence(model: Sequence[Run], file: Sequence[Run]) -> Place | None:
    """Returns the first run of `model` that differs from `file`; None if there is none."""
    for index, run in enumerate(model):
        if index >= len(file) or run != file[index]:
            return _place(run)
    return None


_MAX_SWAP_DISTANCE = 128
"""The largest distance, in layers, over which swapped layers are looked for."""
_MAX_ORDERS = 24


def _reordered(blocks: _Blocks) -> Iterator[Explanation]:
    """Yields explanations by two swapped layers, or by a layer at another position.

    The first moved layer is shortly before the first impossible variance. Only the orders whose
    moved layers score best at their new positions are scored as a whole.
    """
    orders = _orders(blocks, blocks.first_impossible())
    for order in heapq.nlargest(_MAX_ORDERS, orders, key=_support_of):
        yield _ordered(blocks, order)


class _Order(NamedTuple):
    """Blocks in another order.

    Attributes:
        support: the support for the moved blocks at their new positions, in nats.
        kind: the kind of explanation.
        blocks: indices of the blocks from the first moved to the last, as they are in the file.
        reported: indices of the two blocks that the message names.
    """

    support: float
    kind: type[Swapped] | type[Moved]
    blocks: tuple[int, ...]
    reported: tuple[int, int]


def _support_of(order: _Order) -> float:
    return order.support


def _orders(blocks: _Blocks, suspect: int) -> Iterator[_Order]:
    """Yields every order in which the first moved block is possible at its position."""
    support_at, starts, lengths = blocks.support_at, blocks.starts, blocks.lengths
    for first in range(max(0, suspect - 6), min(suspect + 2, len(blocks))):
        start = starts[first]
        for last in range(first + 1, min(len(blocks), first + _MAX_SWAP_DISTANCE)):
            if blocks.shapes[first] == blocks.shapes[last]:
                continue
            between = tuple(range(first + 1, last))
            start_of_first = starts[last] + lengths[last] - lengths[first]
            if blocks.can_start_at(last, start):
                support = support_at(last, start)
                if support > priors.HOPELESS:
                    swapped = support + support_at(first, start_of_first)
                    yield _Order(swapped, Swapped, (last, *between, first), (first, last))
                    if between:
                        moved = support + support_at(first, start + lengths[last])
                        yield _Order(moved, Moved, (last, first, *between), (last, first))
            if between and blocks.can_start_at(first + 1, start):
                following = min(last + 1, len(blocks) - 1)
                moved = support_at(first + 1, start) + support_at(first, start_of_first)
                yield _Order(moved, Moved, (*between, last, first), (first, following))


def _ordered(blocks: _Blocks, order: _Order) -> Explanation:
    """Returns the explanation in which the file has the blocks in this order."""
    first, last = min(order.blocks), max(order.blocks)

    def starts() -> Iterator[tuple[int, int]]:
        start = blocks.starts[first]
        for index in order.blocks:
            yield index, start
            start += blocks.lengths[index]

    def layout() -> list[Run]:
        moved = [run for index, start in starts() for run in blocks.runs_at(index, start)]
        before, after = blocks.blocks[:first], blocks.blocks[last + 1 :]
        return [*itertools.chain(*before), *moved, *itertools.chain(*after)]

    cumulative = blocks.cumulative_support()
    support = blocks.support - float(cumulative[last + 1] - cumulative[first])
    support += sum(blocks.support_at(index, start) for index, start in starts())
    return order.kind(
        penalty=priors.SWAPPED if order.kind is Swapped else priors.MOVED,
        support=support,
        layout=layout,
        place=blocks.place_of(first),
        layers=(blocks.layers[order.reported[0]], blocks.layers[order.reported[1]]),
        floats=blocks.lengths[order.blocks[0]] - blocks.lengths[first],
    )


def _shifted(blocks: _Blocks, shifts: Sequence[int], penalty: float) -> Iterator[Explanation]:
    """Yields explanations by added or lost floats: all arrays from one on are shifted."""
    array_ratio = blocks.evidence.array_ratio
    runs = list(itertools.chain(*blocks.blocks[:_MAX_SCORED_LAYERS]))
    if not runs:
        return
    unshifted = [array_ratio(run.role, run.start, run.floats) for run in runs]
    before = np.concatenate([[0.0], np.cumsum(unshifted)])[:-1]
    # Without a variance after it, a shift looks like a file that is too short or too long.
    variances = (index for index, run in enumerate(runs) if run.role == "moving_variance")
    last_variance = max(variances, default=-1)
    # The shift arose in the array before, at any of its floats with equal probability.
    floats_before = np.array([_FLOATS_BEFORE_FIRST, *(run.floats for run in runs[:-1])])
    before += np.log(floats_before / floats_before.sum())
    for shift in shifts:
        shifted = [array_ratio(run.role, run.start + shift, run.floats) for run in runs]
        after = np.cumsum(shifted[::-1])[::-1]
        possible = (floats_before + shift >= 0) & (np.arange(len(runs)) <= last_variance)
        support = np.where(possible, before + after, -np.inf)
        index = int(np.argmax(support))
        if not possible[index]:
            continue

        def layout(index: int = index, shift: int = shift) -> list[Run]:
            return [
                run._replace(start=run.start + shift) if number >= index else run
                for number, run in enumerate(blocks.runs)
            ]

        yield Shifted(
            penalty=penalty,
            support=float(support[index]),
            layout=layout,
            place=_place(runs[max(0, index - 1)]),
            floats=shift,
        )


_FLOATS_BEFORE_FIRST = 1
"""The number of floats that may be lost before the first array: half of the header's `seen`."""


def _shifts(blocks: _Blocks) -> list[int]:
    """Returns possible shifts, in floats, at the first impossible variance."""
    suspect = blocks.first_impossible()
    shifts = {-1, 1}
    if suspect < len(blocks):
        shifts |= _variance_shifts(blocks, suspect)
    return sorted(shifts)


_SHIFT_SEARCH_FLOATS = 1 << 20
"""The largest shift that is looked for, in floats."""
_MAX_SHIFTS = 1500
"""The most shifts that are scored, the smallest first."""


def _variance_shifts(blocks: _Blocks, suspect: int) -> set[int]:
    """Returns shifts that place the variance of block `suspect` on positive values only."""
    run = next(run for run in blocks.blocks[suspect] if run.role == "moving_variance")
    start = max(0, run.start - _SHIFT_SEARCH_FLOATS)
    values = blocks.evidence.read(start, run.end - start + _SHIFT_SEARCH_FLOATS)
    if values.size <= run.floats:
        return set()
    positive = np.concatenate([[0], np.cumsum(values > 0)])
    all_positive = positive[run.floats :] - positive[: -run.floats] == run.floats
    # The kernel that follows has both signs, so a run of positive values ends with the variance.
    ends = np.flatnonzero(all_positive[:-1] & ~all_positive[1:])
    shifts = ends + start - run.start
    smallest = sorted((int(shift) for shift in shifts if shift), key=abs)[:_MAX_SHIFTS]
    scored = sorted(
        ((blocks.support_at(suspect, blocks.starts[suspect] + shift), shift) for shift in smallest),
        reverse=True,
    )
    return {shift for support, shift in scored[:6] if support > 0}


def first_unsupported(evidence: Evidence, runs: Sequence[Run]) -> Place | None:
    """Returns the first layer that the values do not support; None if they support all."""
    if not runs:
        return None
    blocks = _Blocks(evidence, runs)
    index = int(np.argmax(blocks.cumulative_support()))
    return blocks.place_of(index) if index < len(blocks) else None
