"""What a file holds for each section of a network, and where the two part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from yolotf.darknet import cfg
from yolotf.diagnosis.target import Subject
from yolotf.weights import catalog, layout, statistics
from yolotf.weights.file import WeightsFile
from yolotf.weights.header import Header
from yolotf.weights.statistics import Stats


class Divergence(NamedTuple):
    """Where file and network part.

    Attributes:
        layer: index of the section, from 0 after `[net]`.
        section: its type, without brackets.
        cfg_line: of the section, or of the option that differs; None without a cfg.
        role: beta, bias, kernel, ...: the first array that is not the network's.
        offset: where that array would start in the file, in bytes.
    """

    layer: int
    section: str
    cfg_line: int | None
    role: str
    offset: int


class Array(NamedTuple):
    """One array of a layer in the file; `offset` in bytes from its start."""

    role: str
    shape: tuple[int, ...]
    offset: int
    size_bytes: int
    stats: Stats | None


@dataclass(frozen=True)
class LayerRow:
    """One section of the network and what the file holds for it.

    Attributes:
        layer: its index.
        section: its type.
        cfg_line: where it is written.
        output: rows, columns, channels it puts out; None if only its floats are known.
        status: `fits`, `parts` (the first that does not) or `unreached`.
        arrays: what it stores; empty for a layer without weights.
    """

    layer: int
    section: str
    cfg_line: int | None
    output: cfg.Shape | None
    status: str
    arrays: tuple[Array, ...]

    @property
    def floats(self) -> int:
        """Floats it stores."""
        return sum(array.size_bytes for array in self.arrays) // layout.FLOAT_BYTES


def of_subject(
    subject: Subject,
    header_bytes: int,
    scanned: Sequence[Stats | None],
    end: int,
    parting: Divergence | None,
) -> Iterator[LayerRow]:
    """Every section of a network.

    Args:
        subject: the network.
        header_bytes: of the file.
        scanned: as `scan` gives them.
        end: the first section that does not fit.
        parting: where file and network part, if it is there.
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
        if parting is not None and layer.index == end:
            status = "parts"
        yield LayerRow(
            layer.index,
            layer.type,
            subject.line(layer),
            layer.output_shape,
            status,
            tuple(by_layer.get(layer.index, ())),
        )


def scan(
    file: WeightsFile, header: Header | None, subject: Subject, end: int
) -> list[Stats | None]:
    """Statistics of the segments up to layer `end`, None for others and without a header."""
    runs = statistics.runs_of(segment for segment in subject.segments if segment.layer <= end)
    found: list[Stats | None] = []
    if runs and header:
        try:
            found = list(statistics.scan(file, runs, header.size_bytes))
        except OSError:
            found = []
    return found + [None] * (len(subject.segments) - len(found))


def of_known(file: WeightsFile, header: Header, match: catalog.Match) -> Iterator[LayerRow]:
    """The arrays of a file that has the size of a known network; their shapes are not known."""
    rows = match.architecture.at(match.classes, match.channels)
    from yolotf.diagnosis import scoring  # imports NumPy

    runs = scoring.stored_runs(rows, match.layers)
    scanned = statistics.scan(file, runs, header.size_bytes)
    by_layer: dict[int, list[Array]] = {}
    for run, stats in zip(runs, scanned, strict=True):
        offset = header.size_bytes + layout.FLOAT_BYTES * run.start
        by_layer.setdefault(run.layer, []).append(
            Array(run.role, (run.floats,), offset, layout.FLOAT_BYTES * run.floats, stats)
        )
    for layer, arrays in by_layer.items():
        section = "" if arrays[0].role == "weights" else "convolutional"
        yield LayerRow(layer, section, None, None, "fits", tuple(arrays))
