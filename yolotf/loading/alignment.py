"""Aligns the layers of a file with those of a model that is only partly the same network.

This is a local alignment of two sequences (Smith and Waterman, J. Mol. Biol. 147, 1981) with
affine gaps (Gotoh, J. Mol. Biol. 162, 1982). The score of a pair of layers depends on their
shapes, on the layers that feed them and on the layers they feed: a convolution of a neck is not
one of a residual block, even with the same kernel. A gap costs more than the score of one layer
that matches by chance, so that the backbone of another network keeps its weights; a long gap costs
hardly more than a short one. A pair that differs in an equally good alignment is in doubt.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolotf.models import keras_graph
from yolotf.models.keras_graph import Expression

FITS = 8.0
"""Score of a pair whose arrays all have the same shapes."""
SAME_NAME = 4.0
"""Added if both have the same name; `build_model`'s names are used for the file."""
NEIGHBOURS = 3.0
"""Added if all neighbours match, subtracted if none does, and in proportion in between."""
OTHER_STRIDE = -6.0
OTHER_ACTIVATION = -5.0
WEAK = 4.0
"""The least score of the first and the last pair of a run."""
UNLIKE = -2.0
"""Score of two layers of one kind with different shapes: one of them was modified."""
GAP = -6.0
"""Cost of the first layer that only one side has."""
LONGER_GAP = -0.05
"""Cost of each further layer of a gap."""
MARGIN = 1.0
"""Alignments that differ by less are equally likely."""
_SCALED = 0.8
"""Similarity of a layer's output and the same output scaled by attention."""
_ROUNDS = 2
"""Neighbours up to this number of layers away are compared."""


@dataclass(frozen=True)
class Node:
    """A layer with weights, as the alignment sees it.

    Attributes:
        name: its name; for a layer of the file the one `build_model` gives it.
        reads: its input at each of its uses, an expression of indices into its own sequence;
            empty if unknown.
        strides: strides along rows and columns; None if unknown.
        activation: name of its activation, Darknet's if it has one; None if unknown.
    """

    name: str
    reads: tuple[Expression, ...] = ()
    strides: tuple[int, int] | None = None
    activation: str | None = None


@dataclass(frozen=True)
class Alignment:
    """Pairs of indices into both sequences (file, model), in order.

    Attributes:
        pairs: aligned layers whose shapes match.
        unlike: aligned layers whose shapes differ.
        doubtful: index in the model -> the indices in the file that match it equally well; these
            are left out of `pairs`.
        score: score of the best alignment; of several orders the highest is right.
    """

    pairs: tuple[tuple[int, int], ...]
    unlike: tuple[tuple[int, int], ...] = ()
    doubtful: dict[int, tuple[int, ...]] = field(default_factory=dict)
    score: float = 0.0


def align(
    file: Sequence[Node],
    model: Sequence[Node],
    fits: Callable[[int, int], bool],
    alike: Callable[[int, int], bool],
) -> Alignment:
    """Aligns two sequences of layers.

    Args:
        file: the layers of the file.
        model: the layers of the model.
        fits: tells whether the arrays of two layers have the same shapes.
        alike: tells whether two layers are of one kind, so that one may be the other modified.
    """
    table = _PairTable.of(file, model, fits, alike)
    return _Aligner(file, model, table).best()


@dataclass(frozen=True)
class _PairTable:
    """What is known of each pair, (file layers, model layers).

    Attributes:
        fits: whether the arrays of both layers have the same shapes.
        alike: whether both layers are of one kind; true of every pair that fits.
    """

    fits: NDArray[np.bool_]
    alike: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        file: Sequence[Node],
        model: Sequence[Node],
        fits: Callable[[int, int], bool],
        alike: Callable[[int, int], bool],
    ) -> _PairTable:
        shape = len(file), len(model)
        fitting, related = np.zeros(shape, bool), np.zeros(shape, bool)
        for i, j in np.ndindex(shape):
            fitting[i, j] = fits(i, j)
            related[i, j] = fitting[i, j] or alike(i, j)
        return cls(fitting, related)


_IMPOSSIBLE = -1e9
"""Score of a pair that no alignment may contain."""


class _Aligner:
    """Aligns two sequences.

    For each pair, `ending` is the best score of an alignment that ends with it, and `starting`
    that of one that starts with it.
    """

    def __init__(self, file: Sequence[Node], model: Sequence[Node], table: _PairTable) -> None:
        self.file, self.model = file, model
        self.fits, self.alike = table.fits, table.alike
        self.scores = self._scores()

    def _scores(self) -> NDArray[np.float64]:
        """Returns the score of each pair, (file layers, model layers)."""
        similar = _similarity(self.file, self.model, self.fits, self.alike)
        scores = np.where(self.fits, FITS, UNLIKE) + 2 * NEIGHBOURS * (similar - 0.5)
        for i, source in enumerate(self.file):
            for j, target in enumerate(self.model):
                if not self.alike[i, j]:
                    scores[i, j] = _IMPOSSIBLE
                    continue
                if source.name == target.name:
                    scores[i, j] += SAME_NAME
                if _differ(source.strides, target.strides):
                    scores[i, j] += OTHER_STRIDE
                if _differ(source.activation, target.activation):
                    scores[i, j] += OTHER_ACTIVATION
                if not self.fits[i, j]:
                    # Its neighbours alone must not make a mismatch worth aligning.
                    scores[i, j] = min(scores[i, j], UNLIKE / 2)
        return scores

    def best(self) -> Alignment:
        """Returns the best alignment without the pairs in doubt."""
        if not self.fits.any():
            return Alignment((), tuple(self._paired_in_gaps([])))
        ending = _ending_at(self.scores)
        starting = _ending_at(self.scores[::-1, ::-1])[::-1, ::-1]
        through = ending + starting - self.scores
        total = float(through.max())
        path = self._trimmed(self._path(ending))
        doubtful = self._doubtful(path, ending, starting, through, total)
        pairs = [pair for pair in path if self.fits[pair] and pair[1] not in doubtful]
        unlike = [pair for pair in path if not self.fits[pair]]
        unlike += self._paired_in_gaps(path)
        supported = set(path) | set(unlike)
        pairs = [pair for pair in pairs if self._supported(pair, supported)]
        return Alignment(tuple(pairs), tuple(sorted(unlike)), doubtful, total)

    def _path(self, ending: NDArray[np.float64]) -> list[tuple[int, int]]:
        """Returns the pairs of the best alignment."""
        at: tuple[int, int] | None = tuple(
            int(axis) for axis in np.unravel_index(int(ending.argmax()), ending.shape)
        )  # type: ignore[assignment]
        backwards: list[tuple[int, int]] = []
        while at is not None:
            backwards.append(at)
            at = self._before(ending, *at)
        return backwards[::-1]

    def _trimmed(self, path: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Removes pairs of low score from the ends of each run of consecutive layers."""
        runs: list[list[tuple[int, int]]] = []
        for pair in path:
            if runs and (pair[0] - 1, pair[1] - 1) == runs[-1][-1]:
                runs[-1].append(pair)
            else:
                runs.append([pair])
        for run in runs:
            while run and self.scores[run[0]] < WEAK:
                run.pop(0)
            while run and self.scores[run[-1]] < WEAK:
                run.pop()
        return [pair for run in runs for pair in run]

    def _before(self, ending: NDArray[np.float64], i: int, j: int) -> tuple[int, int] | None:
        """Returns the pair before (i, j) in the best alignment that ends there, or None."""
        wanted = ending[i, j] - self.scores[i, j]
        if i == 0 or j == 0 or wanted <= 1e-9:
            return None
        costs = ending[:i, :j] + _gaps(i)[::-1, None] + _gaps(j)[None, ::-1]
        row, column = np.unravel_index(int(costs.argmax()), costs.shape)
        return int(row), int(column)

    def _doubtful(
        self,
        path: Sequence[tuple[int, int]],
        ending: NDArray[np.float64],
        starting: NDArray[np.float64],
        through: NDArray[np.float64],
        total: float,
    ) -> dict[int, tuple[int, ...]]:
        """Returns the model's layers that equally good alignments pair differently."""
        without = _without_column(ending, starting, total - MARGIN)
        doubtful: dict[int, tuple[int, ...]] = {}
        for i, j in path:
            if not self.fits[i, j]:
                continue
            others = [
                int(other)
                for other in np.flatnonzero(through[:, j] > total - MARGIN)
                if other == i or self.fits[other, j]
            ]
            if len(others) > 1 or without[j] > total - MARGIN:
                doubtful[j] = tuple(others)
        for j in range(len(self.model)):
            # Not in the best alignment, but in one that is equally good.
            if j not in doubtful and not any(column == j for _, column in path):
                others = [
                    int(i)
                    for i in np.flatnonzero(through[:, j] > total - MARGIN)
                    if self.fits[i, j] and self.scores[i, j] >= WEAK
                ]
                if others:
                    doubtful[j] = tuple(others)
        return doubtful

    def _paired_in_gaps(self, path: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Pairs layers of different shapes in gaps that are equally long on both sides."""
        pairs: list[tuple[int, int]] = []
        edges = [(-1, -1), *path, (len(self.file), len(self.model))]
        for (i, j), (k, m) in itertools.pairwise(edges):
            rows, columns = range(i + 1, k), range(j + 1, m)
            if len(rows) == len(columns):
                pairs += [
                    pair
                    for pair in zip(rows, columns, strict=True)
                    if self.alike[pair] and not self.fits[pair]
                ]
        return pairs

    def _supported(self, pair: tuple[int, int], others: set[tuple[int, int]]) -> bool:
        """Returns whether a neighbour is paired too; a shape alone may match by chance."""
        i, j = pair
        if len(self.file) == len(self.model) == 1 or self.file[i].name == self.model[j].name:
            return True
        return bool({(i - 1, j - 1), (i + 1, j + 1)} & others) or any(
            (a, b) in others
            for a in _neighbours(self.file, i)
            for b in _neighbours(self.model, j)
            if (a, b) != pair
        )


def _differ(in_file: object, in_model: object) -> bool:
    """Returns whether both properties are known and differ."""
    return in_file is not None and in_model is not None and in_file != in_model


def _neighbours(nodes: Sequence[Node], place: int) -> set[int]:
    """Returns the indices of the layers that feed a layer, and of those that it feeds."""
    fed = {other for other, node in enumerate(nodes) if place in _sources(node)}
    return _sources(nodes[place]) | fed


def _sources(node: Node) -> set[int]:
    """Returns the indices of the layers that feed a layer."""
    return {key for expression in node.reads for key in keras_graph.units(expression)}


def _gaps(count: int) -> NDArray[np.float64]:
    """Returns the costs of gaps of 0, 1, ..., `count` - 1 layers."""
    costs = GAP + LONGER_GAP * np.arange(-1, count - 1, dtype=np.float64)
    costs[:1] = 0.0
    return costs


def _ending_at(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the best score of an alignment that ends with each pair; it may start anywhere."""
    rows, columns = scores.shape
    ending = np.full(scores.shape, _IMPOSSIBLE)
    # The best of all pairs before a row and a column, including gaps on both sides.
    column_gaps = LONGER_GAP * np.arange(columns, dtype=np.float64)
    in_row_gap = np.full(
        columns, _IMPOSSIBLE
    )  # the pair before, followed by a gap of rows up to here
    previous = np.full(columns, _IMPOSSIBLE)
    for i in range(rows):
        # The last row is paired, or followed by a gap of rows.
        before = np.maximum(previous, in_row_gap)
        # Gaps of columns: a running maximum, with the cost per column subtracted and added back.
        best_before = np.maximum.accumulate(before - column_gaps) + column_gaps
        with_gap = np.full(columns, _IMPOSSIBLE)
        with_gap[2:] = best_before[:-2] + GAP
        diagonal = np.full(columns, _IMPOSSIBLE)
        diagonal[1:] = before[:-1]
        ending[i] = scores[i] + np.maximum(0.0, np.maximum(diagonal, with_gap))
        in_row_gap = np.maximum(in_row_gap + LONGER_GAP, previous + GAP)
        previous = ending[i]
    return ending


def _without_column(
    ending: NDArray[np.float64], starting: NDArray[np.float64], least: float
) -> NDArray[np.float64]:
    """Returns the best score without each layer of the model; may be lower if below `least`."""
    rows, columns = ending.shape
    scores = np.full(columns, 0.0)
    if columns > 1:
        scores[1:] = np.maximum(scores[1:], np.maximum.accumulate(ending.max(axis=0))[:-1])
        later = np.maximum.accumulate(starting.max(axis=0)[::-1])[::-1]
        scores[:-1] = np.maximum(scores[:-1], later[1:])
    for i in range(rows - 1):
        # From a pair in row i, across a gap of columns, to a pair in a later row.
        rest = starting[i + 1 :] + _gaps(rows - i - 1)[:, None]
        onward = rest.max(axis=0)
        for j in range(columns - 2):
            if ending[i, j] + onward[j + 2 :].max() < least:
                continue
            costs = ending[i, j] + onward[j + 2 :] + _gaps(columns - j - 1)[1:]
            # Gaps from column j + 1 to each later column.
            best = np.maximum.accumulate(costs[::-1])[::-1]
            scores[j + 1 : columns - 1] = np.maximum(scores[j + 1 : columns - 1], best)
    return scores


# Layers that feed a layer, and layers that it feeds


def _similarity(
    file: Sequence[Node],
    model: Sequence[Node],
    fits: NDArray[np.bool_],
    alike: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Returns the similarity of the neighbours of each pair, 0 to 1; 0.5 if they are unknown.

    Layers are similar if their neighbours are (Melnik et al., Similarity Flooding, ICDE 2002).
    """
    shape_similarity = np.where(fits, 1.0, np.where(alike, 0.3, 0.0))
    similarity = np.full(shape_similarity.shape, 0.5)
    if not any(node.reads for node in file) or not any(node.reads for node in model):
        return similarity
    readers = _readers(file), _readers(model)
    current = shape_similarity
    for _ in range(_ROUNDS):
        for i, j in zip(*np.nonzero(alike), strict=True):
            above = _entering(file[i].reads, model[j].reads, current)
            below = _leaving(readers[0][i], readers[1][j], current)
            similarity[i, j] = (above + below) / 2
        current = shape_similarity * (0.5 + similarity / 2)
    return similarity


def _readers(nodes: Sequence[Node]) -> list[list[int]]:
    """Returns the indices of the layers that each layer feeds."""
    readers: list[list[int]] = [[] for _ in nodes]
    for place, node in enumerate(nodes):
        for source in _sources(node):
            readers[source].append(place)
    return readers


def _entering(
    file: Sequence[Expression], model: Sequence[Expression], alike: NDArray[np.float64]
) -> float:
    """Returns the similarity of the inputs of two layers, the maximum over their uses."""
    if not file or not model:
        return 0.5
    return max(_expressions(stored, built, alike) for stored in file for built in model)


def _expressions(file: Expression, model: Expression, alike: NDArray[np.float64]) -> float:
    """Returns the similarity of two input expressions, 0 to 1."""
    if keras_graph.OPAQUE in (file, model):
        return 0.5
    if file[0] == model[0] == "unit":
        return float(alike[file[1], model[1]])
    if keras_graph.INPUT in (file, model):
        return float(file == model)
    if file[0] == "unit" and model[0] in ("*", "?"):
        # Attention was added: the layer it scales is still one of the factors.
        return _SCALED * max(_expressions(file, part, alike) for part in model[1:])
    if file[0] != model[0] and (file[0] == "unit" or model[0] not in ("unit", "?")):
        return 0.0
    if model[0] == "unit":
        return 0.0
    operands, candidates = file[1:], model[1:]
    best = [max(_expressions(part, other, alike) for other in candidates) for part in operands]
    return sum(best) / max(len(operands), len(candidates))


def _leaving(file: Iterable[int], model: Iterable[int], alike: NDArray[np.float64]) -> float:
    """Returns the similarity of the readers of two layers; 1 if both are outputs."""
    in_file, in_model = list(file), list(model)
    if not in_file or not in_model:
        return float(not in_file and not in_model)
    values: Any = alike[np.ix_(in_file, in_model)]
    total = values.max(axis=1).sum() + values.max(axis=0).sum()
    return float(total / (len(in_file) + len(in_model)))
