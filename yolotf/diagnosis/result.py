"""The answer of `diagnose` and `inspect`: as objects, as a dictionary, and as a document to show.

Nothing here imports TensorFlow or Keras.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolotf._public import public
from yolotf.darknet import cfg
from yolotf.darknet.stock import as_network
from yolotf.diagnosis import layer_table as _rows
from yolotf.diagnosis import not_weights, summary_lines
from yolotf.diagnosis.causes import Finding
from yolotf.diagnosis.layer_table import Array, Divergence, LayerRow
from yolotf.diagnosis.report import Document, escaped
from yolotf.diagnosis.target import Subject
from yolotf.files import detect as _file
from yolotf.files import sources
from yolotf.files.fetching import TIMEOUT
from yolotf.weights import catalog as _known
from yolotf.weights import layout
from yolotf.weights.file import WeightsFile, WeightsSource
from yolotf.weights.header import WIDE, Header, float_counts

if TYPE_CHECKING:  # imports NumPy
    from yolotf.diagnosis.hypotheses import Place


@public
@dataclass(frozen=True)
class Diagnosis:
    """The answer of `diagnose`; `str()` of it is for people, `to_dict()` for programs.

    Attributes:
        file: the file; open only while it is diagnosed.
        size_bytes: its size.
        header: its header, if it has one that a Darknet could have written.
        subject: what it was compared with.
        matches: known networks of exactly this size.
        causes: everything that keeps file and network apart; empty if they fit.
        warnings: it loads, but.
        first_divergence: where they part.
        readable: False where there is no file to read: missing, forbidden, a directory, a FIFO.
    """

    file: WeightsFile
    size_bytes: int
    header: Header | None
    subject: Subject
    matches: tuple[_known.Match, ...] = ()
    causes: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()
    first_divergence: Divergence | None = None
    readable: bool = True

    @property
    def path(self) -> str:
        """What the file is called."""
        return self.file.name

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
        return tuple(self.rows())

    def rows(self, *, scan_all: bool = False) -> Iterator[LayerRow]:
        """`layers`, with statistics of what comes after the divergence too if `scan_all`."""
        parting = self.first_divergence
        sections = len(self.subject.network.layers)
        end = sections
        if parting is not None:
            end = parting.layer
        elif any(cause.kind != "trailing" for cause in self.causes):
            end = -1
        header = self.header if self.readable else None
        scanned = _rows.scan(self.file, header, self.subject, sections if scan_all else end)
        header_bytes = self.header.size_bytes if self.header else WIDE
        return _rows.of_subject(self.subject, header_bytes, scanned, end, parting)

    def document(self) -> Document:
        """What people are shown: causes with their fixes, warnings, the layers where they part."""
        parting = self.first_divergence
        table = summary_lines.layers_around(self.layers, parting) if parting else None
        return Document.of(self._verdict(), self.ok, self._facts(), table)

    @property
    def candidates(self) -> list[_known.Candidate]:
        """`matches` by name, the likeliest first, with what decodes otherwise than here."""
        return _known.candidates(self.matches, _known.decoding_of(self.subject.network))

    def _others(self) -> list[_known.Candidate]:
        """Those that the network is not itself."""
        own, network = self.subject.architecture, self.subject.network
        return [
            candidate
            for candidate in self.candidates
            if not self.ok
            or candidate.match.architecture is not own
            or (candidate.match.classes, candidate.match.channels)
            != (network.classes, network.input_shape.channels)
            or candidate.differing
        ]

    def _verdict(self) -> str:
        target = self.subject.source
        if self.ok:
            return f"{self.path}: matches {target}"
        if not self.readable:
            return f"{self.path}: cannot be read"
        causes = ", ".join(dict.fromkeys(cause.title for cause in self.causes))
        return f"{self.path}: does not match {target}: {causes}"

    def _facts(self) -> Iterator[tuple[str, str]]:
        yield "file", summary_lines.file_line(self.size_bytes, self.header)
        yield "network", summary_lines.network_line(self.subject, self.header)
        for line in summary_lines.match_lines(self._others()):
            yield "same size as", line
        for cause in self.causes:
            yield "cause", cause.text
            if cause.fix:
                yield "fix", cause.fix
        parting = self.first_divergence
        if parting:
            where = self.subject.where(parting.layer)
            yield "diverges at", f"{where}, {parting.role}, byte {parting.offset:,}"
        for warning in self.warnings:
            yield "warning", warning.text

    def summary(self) -> str:
        """All causes and their fixes in one line, and where file and network part."""
        prefix = f"{self.path}: "
        causes = [f"{cause.text}; {cause.fix}" for cause in self.causes]
        if not causes:
            return escaped(f"{prefix}matches {self.subject.title}")
        count = f"{len(causes)} causes: " if len(causes) > 1 else ""
        text = f"{prefix}{count}{'; and '.join(causes)}"
        if self.first_divergence is not None:
            parting = self.first_divergence
            text += f"; they diverge at {self.subject.where(parting.layer)}, {parting.role}, "
            text += f"byte {parting.offset}"
        return escaped(text)

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
                    self.header.size_bytes if self.header else WIDE
                ),
                "floats": self.subject.floats,
            },
            "matches": list(_matches_json(self.candidates, self.header)),
            "causes": [cause.to_dict() for cause in self.causes],
            "warnings": [warning.to_dict() for warning in self.warnings],
            "first_divergence": (
                self.first_divergence._asdict() if self.first_divergence else None
            ),
        }

    def __str__(self) -> str:
        return self.document().text()


def diagnose(
    weights: WeightsSource,
    network: cfg.Network | cfg.Source,
    *,
    classes: int | None = None,
    progress: sources.Progress | None = None,
    timeout: float | None = TIMEOUT,
) -> Diagnosis:
    """Says whether a `.weights` file belongs to a network, and if not, why.

    Args:
        weights: the file, from anywhere. It may be anything: damaged, no weights at all, or not
            even there.
        network: a `Network`, a cfg's path or text, or a stock name.
        classes: the network with another number of classes.
        progress: called with (bytes done, bytes in all) of what comes over a network.
        timeout: seconds that a URL's server may be silent; None: any.

    Returns:
        The diagnosis; a file that cannot be read gives one too, with `readable` False.

    Raises:
        CfgError: the cfg is broken, or there is no such network.
        TypeError: an argument is nothing of the above.
    """
    if classes is not None and (isinstance(classes, bool) or not isinstance(classes, int)):
        raise TypeError(f"classes must be an int, not {type(classes).__name__}")
    compared = _network(network, classes)
    try:
        with WeightsFile.open(weights, progress, network=compared, timeout=timeout) as file:
            return _examined(file, compared)
    except OSError as error:
        return unreadable(weights, error, compared)


def unreadable(weights: WeightsSource, error: OSError, network: cfg.Network) -> Diagnosis:
    """What `diagnose` says where there is nothing to open, such as at an unreachable URL."""
    missing = isinstance(error, FileNotFoundError)
    contents = _file.Contents(
        unreadable=_reason(error), detected="missing" if missing else "unreadable"
    )
    return _not_weights(WeightsFile.named(weights), contents, Subject.of(network))


def _examined(file: WeightsFile, network: cfg.Network) -> Diagnosis:
    """`diagnose` for arguments that are what they should be."""
    contents = _file.Contents.of(file.path)
    subject = Subject.of(network)
    if contents.detected is not None:
        return _not_weights(file, contents, subject)
    try:
        # NumPy, which a file that is missing or of another kind does not wait for.
        from yolotf.diagnosis import examination

        answer = examination.examine(file, contents, subject)
    except OSError as error:  # gone, cut short or unreadable by now
        contents = replace(contents, unreadable=_reason(error), detected="unreadable")
        return _not_weights(file, contents, subject)
    header_bytes = answer.header.size_bytes if answer.header else WIDE
    return Diagnosis(
        file,
        file.size_bytes,
        answer.header,
        subject,
        matches=answer.matches,
        causes=answer.causes,
        warnings=answer.warnings,
        first_divergence=_divergence(subject, answer.place, header_bytes),
    )


def _not_weights(file: WeightsFile, contents: _file.Contents, subject: Subject) -> Diagnosis:
    return Diagnosis(
        file,
        contents.size_bytes,
        None,
        subject,
        causes=(not_weights.cause(file, contents, subject),),
        readable=contents.unreadable is None,
    )


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _divergence(subject: Subject, place: Place | None, header_bytes: int) -> Divergence | None:
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
    candidates: Iterable[_known.Candidate], header: Header | None
) -> Iterator[dict[str, Any]]:
    for name, match, differing in candidates:
        row: dict[str, Any] = {
            "architecture": name,
            "classes": match.classes,
            "channels": match.channels,
            "header_bytes": header.size_bytes if header else WIDE,
            "layers": match.layers,
        }
        if differing:
            row["decodes_otherwise"] = [one._asdict() for one in differing]
        yield row


@public
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

    @property
    def candidates(self) -> list[_known.Candidate]:
        """`matches` by name, the likeliest first, with what decodes otherwise than that one."""
        return _known.candidates(self.matches)

    def document(self) -> Document:
        """What people are shown: what the file is, and every array with its numbers."""
        table = summary_lines.arrays(self.layers) if self.layers else None
        return Document.of(self.path, self.detected is None, self._facts(), table)

    def _facts(self) -> Iterator[tuple[str, str]]:
        yield "file", summary_lines.file_line(self.size_bytes, self.header)
        if self.detected:
            hint = f": {self.hint}" if self.hint else ""
            yield "detected", self.detected + hint
            return
        found = self.candidates
        here = f"in {found[0].name}" if found else ""
        for number, line in enumerate(summary_lines.match_lines(found, here)):
            yield "or" if number else "is", line
        if not self.matches:
            yield "is", "no known network of this size"

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
            "matches": list(_matches_json(self.candidates, header)),
            "layers": [
                {
                    "layer": row.layer,
                    "section": row.section,
                    "cfg_line": row.cfg_line,
                    "arrays": [_array_json(array) for array in row.arrays],
                }
                for row in self.layers
                if row.arrays
            ],
        }

    def __str__(self) -> str:
        return self.document().text()


def _array_json(array: Array) -> dict[str, Any]:
    stats = array.stats
    return {
        "role": array.role,
        "shape": list(array.shape),
        "offset": array.offset,
        "size_bytes": array.size_bytes,
        "stats": stats._asdict() if stats else None,
    }


def _network(source: Any, classes: int | None) -> cfg.Network:
    if isinstance(source, (cfg.Network, str, os.PathLike)):
        return as_network(source, classes=classes)
    raise TypeError(
        "network must be a Network, a cfg's path or text or a stock name, "
        f"not {type(source).__name__}"
    )


@public
def inspect(
    weights: WeightsSource,
    network: cfg.Network | cfg.Source | None = None,
    *,
    classes: int | None = None,
    progress: sources.Progress | None = None,
    timeout: float | None = TIMEOUT,
) -> Inspection:
    """Says what a file holds: header, known networks of its size, and its arrays.

    Args:
        weights: the file, from anywhere.
        network: what it was trained with; without it the most usual known network of its size
            tells where the arrays are.
        classes: the network with another number of classes.
        progress: called with (bytes done, bytes in all) of what comes over a network.
        timeout: seconds that a URL's server may be silent; None: any.

    Raises:
        CfgError: the cfg is broken, or there is no such network.
        OSError: the file cannot be read.
    """
    known = None if network is None else _network(network, classes)
    with WeightsFile.open(weights, progress, network=known, timeout=timeout) as file:
        return _inspected(file, known)


def _inspected(file: WeightsFile, network: cfg.Network | None) -> Inspection:
    contents = _file.Contents.of(file.path)
    if contents.unreadable:
        # The system's own error where there is one; a directory or FIFO is never opened.
        if contents.detected in ("missing", "unreadable"):
            Path(file.path).open("rb").close()
        raise OSError(f"{file.name}: {contents.unreadable}")
    answer = Inspection(file.name, contents.size_bytes, contents.detected, hint=contents.hint)
    if contents.detected is not None:
        return answer
    if damage := _file.mangled(file.path):
        return replace(answer, detected=damage)
    header = Header.parse(file.start)
    if header is None:
        return answer
    if rest := (file.size_bytes - header.size_bytes) % layout.FLOAT_BYTES:
        # Both widths are multiples of four: the rest is the same after either.
        hint = f"cut or damaged: {rest} of 4 bytes left after the last whole float"
        return replace(answer, header=header, detected="damaged", hint=hint)
    matches: list[_known.Match] = []
    for width, floats in float_counts(file.size_bytes, header.widths):
        solved = _known.solve(floats)
        # A width that makes the file a more usual network is the right one.
        if solved and (not matches or solved[0].unlikeliness + 2 < matches[0].unlikeliness):
            matches, header = solved, Header.parse(file.start, width) or header
    if network is not None:
        diagnosis = _examined(file, network)
        header = diagnosis.header or header
        layers = tuple(diagnosis.rows(scan_all=True))
    else:
        layers = tuple(_rows.of_known(file, header, matches[0])) if matches else ()
    return replace(answer, header=header, matches=tuple(matches), layers=layers)
