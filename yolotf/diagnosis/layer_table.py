"""The arrays a file holds for each section of a network, and where the two diverge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from yolotf.darknet import cfg
from yolotf.diagnosis.target import Subject
from yolotf.weights import catalog, layout, statistics
from yolotf.weights.file import ParsedFile
from yolotf.weights.statistics import Stats


class Divergence(NamedTuple):
    """The first array where file and network diverge.

    Attributes:
        layer: index of the section, from 0 after `[net]`.
        section: its type, without brackets.
        cfg_line: line of the section, or of the option that differs; None without a cfg.
        role: role of the array: beta, bias, kernel, ...
        offset: where the array would start in the file, in bytes.
    """

    layer: int
    section: str
    cfg_line: int | None
    role: str
    offset: int


class Array(NamedTuple):
    """An array of a layer in the file; `offset` is in bytes from the start of the file."""

    role: str
    shape: tuple[int, ...]
    offset: int
    size_bytes: int
    stats: Stats | None


@dataclass(frozen=True)
class LayerRow:
    """A section of the network and its arrays in the file.

    Attributes:
        layer: index of the section.
        section: its type.
        cfg_line: its cfg line; None without a cfg.
        output: its output shape (rows, columns, channels); None if only its floats are known.
        status: `fits`, `parts` (the first section that does not match) or `unreached`.
        arrays: its arrays; empty for a layer without weights.
    """

    layer: int
    section: str
    cfg_line: int | None
    output: cfg.Shape | None
    status: str
    arrays: tuple[Array, ...]

    @property
    def floats(self) -> int:
        """The number of floats it stores."""
        return sum(array.size_bytes for array in self.arrays) // layout.FLOAT_BYTES


def of_subject(
    subject: Subject,
    header_bytes: int,
    scanned: Sequence[Stats | None],
    end: int,
    divergence: Divergence | None,
) -> Iterator[LayerRow]:
    """Yields a row for each section of a network.

    Args:
        subject: the network.
        header_bytes: size of the file's header.
        scanned: the result of `scan`.
        end: index of the first section that does not match.
        divergence: where file and network diverge, if they do at `end`.
    """
    by_layer: dict[int, list[Array]] = {}
    for segment, stats in zip(subject.segments, scanned, strict=True):
        by_layer.setdefault(segment.layer, []).append(
            Array(
                segment.role,
                segment.shape,
                header_bytes + segment.offset,
                segment.size_bytes,
                stats if stats and stats.floats else None,
            )
        )
    for layer in subject.network.layers:
        status = "fits" if layer.index < end else "unreached"
        if divergence is not None and layer.index == end:
            status = "parts"
        yield LayerRow(
            layer.index,
            layer.type,
            subject.line(layer),
            layer.output_shape,
            status,
            tuple(by_layer.get(layer.index, ())),
        )


def scan(file: ParsedFile | None, subject: Subject, end: int) -> list[Stats | None]:
    """Returns the statistics of each segment up to layer `end`; None for the others.

    Without a file, or if it cannot be read, all are None.
    """
    runs = statistics.runs_of(segment for segment in subject.segments if segment.layer <= end)
    scanned: list[Stats | None] = []
    if runs and file:
        try:
            scanned = list(statistics.scan(file, runs))
        except OSError:
            scanned = []
    return scanned + [None] * (len(subject.segments) - len(scanned))


def of_known(file: ParsedFile, match: catalog.Match) -> Iterator[LayerRow]:
    """Yields rows for a file that has the size of a known network; array shapes are unknown."""
    from yolotf.diagnosis import scoring  # imports NumPy

    rows = match.architecture.at(match.classes, match.channels)
    runs = scoring.stored_runs(rows, match.layers)
    scanned = statistics.scan(file, runs)
    by_layer: dict[int, list[Array]] = {}
    for run, stats in zip(runs, scanned, strict=True):
        offset = file.header.size_bytes + layout.FLOAT_BYTES * run.start
        by_layer.setdefault(run.layer, []).append(
            Array(run.role, (run.floats,), offset, layout.FLOAT_BYTES * run.floats, stats)
        )
    for layer, arrays in by_layer.items():
        section = "" if arrays[0].role == "weights" else "convolutional"
        yield LayerRow(layer, section, None, None, "fits", tuple(arrays))
