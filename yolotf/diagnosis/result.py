"""The answer of `diagnose` and `inspect`: as objects, as a dictionary, and as a document to show.

Nothing here imports TensorFlow or Keras.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from yolotf.darknet import cfg
from yolotf.darknet.stock import as_network
from yolotf.diagnosis import examination, explanation, search
from yolotf.diagnosis.findings import Finding
from yolotf.diagnosis.render import document, plain
from yolotf.diagnosis.subject import Subject
from yolotf.weights import content as _content
from yolotf.weights import contents as _file
from yolotf.weights import known as _known
from yolotf.weights import layout, sources
from yolotf.weights.content import Stats
from yolotf.weights.contents import Header
from yolotf.weights.sources import StrPath


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
        segments: what it stores; empty for a layer without weights.
    """

    layer: int
    section: str
    cfg_line: int | None
    output: cfg.Shape | None
    status: str
    segments: tuple[Array, ...]

    @property
    def floats(self) -> int:
        """Floats it stores."""
        return sum(segment.size_bytes for segment in self.segments) // layout.FLOAT_BYTES


@dataclass(frozen=True)
class Diagnosis:
    """The answer of `diagnose`; `str()` of it is for people, `to_dict()` for programs.

    Attributes:
        path: the file.
        size_bytes: its size.
        header: its header, if it has one that a Darknet could have written.
        subject: what it was compared with.
        matches: known networks of exactly this size.
        causes: everything that keeps file and network apart; empty if they fit.
        warnings: it loads, but.
        first_divergence: where they part.
        readable: False where there is no file to read: missing, forbidden, a directory, a FIFO.
    """

    path: str
    size_bytes: int
    header: Header | None
    subject: Subject
    matches: tuple[_known.Match, ...] = ()
    causes: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()
    first_divergence: Divergence | None = None
    readable: bool = True

    @property
    def ok(self) -> bool:
        """Whether the file can be loaded into the network."""
        return not self.causes

    @property
    def exit_code(self) -> int:
        """What `yolotf check` ends with: 0 fits, 1 does not fit, 2 cannot be read."""
        if not self.readable:
            return 2
        return 0 if self.ok else 1

    @property
    def floats(self) -> int:
        """Whole floats after the header; 0 without one."""
        header = self.header.size_bytes if self.header else self.size_bytes
        return max(0, self.size_bytes - header) // layout.FLOAT_BYTES

    @functools.cached_property
    def layers(self) -> tuple[LayerRow, ...]:
        """Every section, how far it fits, and statistics of what the file holds for it."""
        return tuple(_rows(self))

    def document(self) -> document.Document:
        """What people are shown."""
        return document.of_diagnosis(self)

    def summary(self) -> str:
        """All causes and their fixes in one line, and where file and network part."""
        prefix = f"{self.path}: "
        causes = [f"{cause.text}; {cause.fix}" for cause in self.causes]
        if not causes:
            return f"{prefix}fits {self.subject.title}"
        count = f"{len(causes)} causes: " if len(causes) > 1 else ""
        text = f"{prefix}{count}{'; and '.join(causes)}"
        if self.first_divergence is not None:
            parting = self.first_divergence
            text += f"; they part at {self.subject.where(parting.layer)}, {parting.role}, "
            text += f"byte {parting.offset}"
        return text

    def to_dict(self) -> dict[str, Any]:
        """What `yolotf check --json` prints."""
        network = self.subject.network
        header = self.header._asdict() if self.header else None
        return {
            "ok": self.ok,
            "weights": {
                "path": self.path,
                "size_bytes": self.size_bytes,
                "header": header,
                "floats": self.floats,
            },
            "network": {
                "source": self.subject.source,
                "name": self.subject.name,
                "classes": network.classes,
                "channels": network.input_shape.channels,
                "size_bytes": self.subject.size_bytes(
                    self.header.size_bytes if self.header else _file.WIDE
                ),
                "floats": self.subject.floats,
            },
            "matches": list(_matches_json(self.matches, self.header)),
            "causes": [cause.to_dict() for cause in self.causes],
            "warnings": [warning.to_dict() for warning in self.warnings],
            "first_divergence": (
                self.first_divergence._asdict() if self.first_divergence else None
            ),
        }

    def __str__(self) -> str:
        return plain.text_of(self.document())


def diagnose(
    weights: StrPath, network: cfg.Network | cfg.Source, *, classes: int | None = None
) -> Diagnosis:
    """Says whether a `.weights` file belongs to a network, and if not, why.

    Args:
        weights: the file. It may be anything: damaged, no weights at all, or not even there.
        network: a `Network`, a cfg's path or text, or a stock name.
        classes: the network with another number of classes.

    Returns:
        The diagnosis; a file that cannot be read gives one too, with `readable` False.

    Raises:
        CfgError: the cfg is broken, or there is no such network.
        TypeError: an argument is nothing of the above.
    """
    if not isinstance(weights, (str, os.PathLike)):
        raise TypeError(f"weights must be a path, not {type(weights).__name__}")
    if classes is not None and (isinstance(classes, bool) or not isinstance(classes, int)):
        raise TypeError(f"classes must be an int, not {type(classes).__name__}")
    return _examined(weights, _network(network, classes))


def _examined(weights: StrPath, network: cfg.Network) -> Diagnosis:
    """`diagnose` for arguments that are what they should be."""
    contents = _file.Contents.of(weights)
    subject = Subject.of(network)
    if contents.detected is None:
        try:
            answer = examination.examine(contents, subject)
        except OSError as error:  # gone, cut short or unreadable by now
            reason = (error.strerror or str(error)).lower()
            contents = replace(contents, unreadable=reason, detected="unreadable")
        else:
            header = answer.header.size_bytes if answer.header else _file.WIDE
            return Diagnosis(
                contents.path,
                contents.size_bytes,
                answer.header,
                subject,
                matches=answer.matches,
                causes=answer.causes,
                warnings=answer.warnings,
                first_divergence=_divergence(subject, answer.place, header),
            )
    return Diagnosis(
        contents.path,
        contents.size_bytes,
        None,
        subject,
        causes=(examination.not_weights(contents, subject),),
        readable=contents.unreadable is None,
    )


def _divergence(
    subject: Subject, place: explanation.Place | None, header_bytes: int
) -> Divergence | None:
    if place is None:
        return None
    layer = subject.network.layers[place.layer]
    return Divergence(
        place.layer,
        layer.type,
        subject.line(layer),
        place.role,
        header_bytes + layout.FLOAT_BYTES * place.start,
    )


def _matches_json(
    matches: Iterable[_known.Match], header: Header | None
) -> Iterator[dict[str, Any]]:
    for match in matches:
        for name in match.architecture.names:
            yield {
                "architecture": name,
                "classes": match.classes,
                "channels": match.channels,
                "header_bytes": header.size_bytes if header else _file.WIDE,
                "layers": match.layers,
            }


def _rows(diagnosis: Diagnosis, *, scan_all: bool = False) -> Iterator[LayerRow]:
    network = diagnosis.subject.network
    header = diagnosis.header.size_bytes if diagnosis.header else _file.WIDE
    parting = diagnosis.first_divergence
    end = len(network.layers)
    if parting is not None:
        end = parting.layer
    elif any(cause.kind != "trailing" for cause in diagnosis.causes):
        end = -1
    segments = diagnosis.subject.segments
    scanned = _scan_until(diagnosis, len(network.layers) if scan_all else end)
    by_layer: dict[int, list[Array]] = {}
    for segment, stats in zip(segments, scanned, strict=True):
        by_layer.setdefault(segment.layer, []).append(
            Array(
                segment.role,
                segment.shape,
                header + segment.offset,
                segment.size_bytes,
                stats if stats and stats.floats else None,
            )
        )
    for layer in network.layers:
        status = "fits" if layer.index < end else "unreached"
        if parting is not None and layer.index == end:
            status = "parts"
        yield LayerRow(
            layer.index,
            layer.type,
            diagnosis.subject.line(layer),
            layer.output_shape,
            status,
            tuple(by_layer.get(layer.index, ())),
        )


def _scan_until(diagnosis: Diagnosis, end: int) -> list[Stats | None]:
    """Statistics of the segments up to layer `end`, None for the others."""
    segments = diagnosis.subject.segments
    runs = _content.runs_of(segment for segment in segments if segment.layer <= end)
    found: list[Stats | None] = []
    if runs and diagnosis.header and diagnosis.readable:
        try:
            path = sources.place_of(diagnosis.path)
            found = list(_content.scan(path, runs, diagnosis.header.size_bytes))
        except OSError:
            found = []
    return found + [None] * (len(segments) - len(found))


def unreadable(
    name: str, error: OSError, network: cfg.Network | cfg.Source, classes: int | None = None
) -> Diagnosis:
    """What `diagnose` says of a file that cannot be read, such as one of an unreachable URL."""
    reason = (error.strerror or str(error)).lower()
    detected = "missing" if isinstance(error, FileNotFoundError) else "unreadable"
    contents = _file.Contents(name, unreadable=reason, detected=detected)
    subject = Subject.of(_network(network, classes))
    cause = examination.not_weights(contents, subject)
    return Diagnosis(name, 0, None, subject, causes=(cause,), readable=False)


@dataclass(frozen=True)
class Inspection:
    """What a file says about itself.

    Attributes:
        path: the file.
        size_bytes: its size.
        detected: what it is if it is no weights file, as in a `not_weights` cause.
        header: its header, if it is one.
        matches: known networks of this size.
        layers: what it holds, if its network was given or is known.
        hint: more about `detected`, for people.
    """

    path: str
    size_bytes: int
    detected: str | None = None
    header: Header | None = None
    matches: tuple[_known.Match, ...] = ()
    layers: tuple[LayerRow, ...] = ()
    hint: str = ""

    def document(self) -> document.Document:
        """What people are shown."""
        return document.of_inspection(self)

    def to_dict(self) -> dict[str, Any]:
        """What `yolotf inspect --json` prints."""
        header = self.header
        floats = max(0, self.size_bytes - header.size_bytes) // layout.FLOAT_BYTES if header else 0
        return {
            "path": self.path,
            "size_bytes": self.size_bytes,
            "detected": self.detected,
            "header": header._asdict() if header else None,
            "floats": floats,
            "matches": list(_matches_json(self.matches, header)),
            "layers": [
                {
                    "layer": row.layer,
                    "section": row.section,
                    "cfg_line": row.cfg_line,
                    "arrays": [_array_json(segment) for segment in row.segments],
                }
                for row in self.layers
                if row.segments
            ],
        }

    def __str__(self) -> str:
        return plain.text_of(self.document())


def _array_json(segment: Array) -> dict[str, Any]:
    stats = segment.stats
    return {
        "role": segment.role,
        "shape": list(segment.shape),
        "offset": segment.offset,
        "size_bytes": segment.size_bytes,
        "stats": stats._asdict() if stats else None,
    }


def _network(source: Any, classes: int | None) -> cfg.Network:
    if isinstance(source, (cfg.Network, str, os.PathLike)):
        return as_network(source, classes=classes)
    raise TypeError(
        "network must be a Network, a cfg's path or text or a stock name, "
        f"not {type(source).__name__}"
    )


@sources.any_source("weights")
def inspect(
    weights: sources.Weights,
    network: cfg.Network | cfg.Source | None = None,
    *,
    classes: int | None = None,
) -> Inspection:
    """Says what a file holds: header, known networks of its size, and its arrays.

    Args:
        weights: the file.
        network: what it was trained with; without it the most usual known network of its size
            tells where the arrays are.
        classes: the network with another number of classes.

    Raises:
        CfgError: the cfg is broken, or there is no such network.
        OSError: the file cannot be read.
    """
    weights = sources.path_of(weights)
    contents = _file.Contents.of(weights)
    if contents.unreadable:
        # The system's own error where there is one; a directory or FIFO is never opened.
        if contents.detected in ("missing", "unreadable"):
            Path(weights).open("rb").close()
        raise OSError(f"{contents.path}: {contents.unreadable}")
    found = Inspection(contents.path, contents.size_bytes, contents.detected, hint=contents.hint)
    header = contents.header()
    if found.detected is None and (damage := _file.mangled(weights, contents.size_bytes)):
        return replace(found, detected=damage)
    if found.detected or header is None:
        return found
    if (contents.size_bytes - header.size_bytes) % layout.FLOAT_BYTES:
        # Both widths are multiples of four: the rest is the same after either.
        rest = (contents.size_bytes - header.size_bytes) % layout.FLOAT_BYTES
        hint = f"cut or damaged: {rest} of 4 bytes left after the last whole float"
        return replace(found, header=header, detected="damaged", hint=hint)
    matches: list[_known.Match] = []
    for width in header.widths:
        floats, rest = divmod(contents.size_bytes - width, layout.FLOAT_BYTES)
        solved = [] if rest else _known.solve(floats)
        # A width that makes the file a more usual network is the right one.
        if solved and (not matches or solved[0].unlikeliness + 2 < matches[0].unlikeliness):
            matches, header = solved, contents.header(width) or header
    if network is not None:
        diagnosis = _examined(weights, _network(network, classes))
        header = diagnosis.header or header
        layers = tuple(_rows(diagnosis, scan_all=True))
    else:
        layers = tuple(_known_rows(found.path, header, matches[0])) if matches else ()
    return replace(found, header=header, matches=tuple(matches), layers=layers)


def _known_rows(path: str, header: Header, match: _known.Match) -> Iterator[LayerRow]:
    """The arrays of a file that has the size of a known network; their shapes are not known."""
    rows = match.architecture.at(match.classes, match.channels)
    runs = search.stored_runs(rows, match.layers)
    scanned = _content.scan(path, runs, header.size_bytes)
    by_layer: dict[int, list[Array]] = {}
    for run, stats in zip(runs, scanned, strict=True):
        offset = header.size_bytes + layout.FLOAT_BYTES * run.start
        by_layer.setdefault(run.layer, []).append(
            Array(run.role, (run.floats,), offset, layout.FLOAT_BYTES * run.floats, stats)
        )
    for layer, segments in by_layer.items():
        section = "" if segments[0].role == "weights" else "convolutional"
        yield LayerRow(layer, section, None, None, "fits", tuple(segments))
