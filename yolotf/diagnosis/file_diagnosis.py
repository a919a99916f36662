"""`diagnose` and its result, `Diagnosis`: whether a file matches a network.

Nothing here imports TensorFlow or Keras.
"""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from yolotf._public import public
from yolotf.argument_numbers import flags_checked
from yolotf.darknet import cfg
from yolotf.darknet.dialects import Dialect
from yolotf.darknet.stock import as_network
from yolotf.diagnosis import layer_table, not_weights, summary_lines
from yolotf.diagnosis.causes import TAKES_CLASSES, ClassCount, Finding
from yolotf.diagnosis.layer_table import Divergence, LayerRow
from yolotf.diagnosis.report import Document
from yolotf.diagnosis.target import Place, Subject
from yolotf.files import detect, sources
from yolotf.files.fetching import TIMEOUT
from yolotf.progress import Progress, as_progress
from yolotf.text import escaped
from yolotf.weights import catalog, layout, same_size
from yolotf.weights.file import WeightsFile, WeightsSource
from yolotf.weights.head_decoding import decoding_of
from yolotf.weights.header import WIDE, Header


@public
@dataclass(frozen=True)
class Diagnosis:
    """The result of `diagnose`; `str()` gives text, `to_dict()` JSON, and `to_html()` a page.

    Attributes:
        file: the file; it is open only during the diagnosis.
        size_bytes: its size.
        header: its header; None unless Darknet could have written it.
        subject: the network it was compared with.
        matches: known networks of exactly this size.
        causes: every reason why file and network do not match; empty if they do.
        warnings: problems that do not prevent loading.
        first_divergence: the first array where file and network diverge.
        readable: False if the file cannot be read: it is missing, is a directory or a FIFO, or
            permission is denied.
    """

    file: WeightsFile
    size_bytes: int
    header: Header | None
    subject: Subject
    matches: tuple[catalog.Match, ...] = ()
    causes: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()
    first_divergence: Divergence | None = None
    readable: bool = True

    @property
    def path(self) -> str:
        """The name of the file, as in messages."""
        return self.file.name

    @property
    def ok(self) -> bool:
        """Whether the file can be loaded into the network."""
        return not self.causes

    @property
    def exit_code(self) -> int:
        """The exit status of `yolotf check`: 0 match, 1 mismatch, 2 unreadable file."""
        if not self.readable:
            return 2
        return 0 if self.ok else 1

    @property
    def floats(self) -> int:
        """The number of whole floats after the header; 0 without a header."""
        header = self.header.size_bytes if self.header else self.size_bytes
        return max(0, self.size_bytes - header) // layout.FLOAT_BYTES

    @functools.cached_property
    def layers(self) -> tuple[LayerRow, ...]:
        """All sections, with their status and statistics of their arrays in the file."""
        return tuple(self.rows())

    @flags_checked("scan_all")
    def rows(self, *, scan_all: bool = False) -> Iterator[LayerRow]:
        """Yields `layers`; with `scan_all`, with statistics after the divergence too."""
        divergence = self.first_divergence
        sections = len(self.subject.network.layers)
        end = sections
        if divergence is not None:
            end = divergence.layer
        elif any(cause.kind != "trailing" for cause in self.causes):
            end = -1
        file = self.file.with_header(self.header) if self.header and self.readable else None
        scanned = layer_table.scan(file, self.subject, sections if scan_all else end)
        header_bytes = self.header.size_bytes if self.header else WIDE
        return layer_table.of_subject(self.subject, header_bytes, scanned, end, divergence)

    def document(self) -> Document:
        """Returns the text to show: causes and fixes, warnings, layers around the divergence."""
        divergence = self.first_divergence
        table = summary_lines.layers_around(self.layers, divergence) if divergence else None
        return Document.of(self._verdict(), self.ok, self._facts(), table)

    @property
    def candidates(self) -> list[same_size.Candidate]:
        """`matches` by name, likeliest first, with the cfg keys that decode differently."""
        return same_size.candidates(self.matches, decoding_of(self.subject.network))

    def _other_candidates(self) -> list[same_size.Candidate]:
        """Returns the candidates other than the network itself."""
        own_architecture, network = self.subject.architecture, self.subject.network
        return [
            candidate
            for candidate in self.candidates
            if not self.ok
            or candidate.match.architecture is not own_architecture
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
        for line in summary_lines.match_lines(self._other_candidates()):
            yield "same size as", line
        for cause in self.causes:
            yield "cause", cause.text
            if cause.fix:
                yield "fix", cause.fix
        divergence = self.first_divergence
        if divergence:
            where = self.subject.where(divergence.layer)
            yield "diverges at", f"{where}, {divergence.role}, byte {divergence.offset:,}"
        for warning in self.warnings:
            yield "warning", warning.text

    def with_argument(self, argument: str | None = None) -> Diagnosis:
        """Returns the diagnosis with the advice for a function that does not train.

        Args:
            argument: what to pass or call for the file's number of classes, `{classes}`; None for
                a function that takes `classes`.
        """
        argument = argument or TAKES_CLASSES
        causes = tuple(
            replace(cause, argument=argument if cause.argument else None, training="")
            if isinstance(cause, ClassCount)
            else cause
            for cause in self.causes
        )
        return replace(self, causes=causes)

    def summary(self) -> str:
        """Returns all causes, their fixes and the first divergence in one line."""
        prefix = f"{self.path}: "
        causes = [f"{cause.text}; {cause.fix}" for cause in self.causes]
        if not causes:
            return escaped(f"{prefix}matches {self.subject.title}")
        count = f"{len(causes)} causes: " if len(causes) > 1 else ""
        text = f"{prefix}{count}{'; and '.join(causes)}"
        if self.first_divergence is not None:
            divergence = self.first_divergence
            text += f"; they diverge at {self.subject.where(divergence.layer)}, {divergence.role}, "
            text += f"byte {divergence.offset}"
        return escaped(text)

    def to_dict(self) -> dict[str, Any]:
        """Returns the object that `yolotf check --json` prints."""
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
            "matches": list(matches_json(self.candidates, self.header)),
            "causes": [cause.to_dict() for cause in self.causes],
            "warnings": [warning.to_dict() for warning in self.warnings],
            "first_divergence": (
                self.first_divergence._asdict() if self.first_divergence else None
            ),
        }

    def to_html(self) -> str:
        """Returns the page that `yolotf check --html` writes; it draws the layers."""
        from yolotf.diagnosis.render import html  # lazy: only pages need it

        return html.page(self)

    def __str__(self) -> str:
        return self.document().text()


def diagnose(
    weights: WeightsSource,
    network: cfg.Network | cfg.Source,
    *,
    classes: int | None = None,
    dialect: Dialect | None = None,
    progress: Progress | None = None,
    timeout: float | None = TIMEOUT,
) -> Diagnosis:
    """Explains whether a `.weights` file matches a network, and if not, why.

    Args:
        weights: the file, in any form that `load_darknet_weights` accepts. It may be damaged,
            not a weights file at all, or missing.
        network: a `Network`, a cfg's path or text, or a stock name.
        classes: number of classes of the network, if it differs from the cfg's.
        dialect: the fork of Darknet that reads the cfg, see `parse_cfg`.
        progress: called as `progress("downloading", bytes_done, bytes_in_total)` during a
            download.
        timeout: seconds without data after which a download fails; None waits forever.

    Returns:
        The diagnosis. For a file that cannot be read, its `readable` is False.

    Raises:
        CfgError: the cfg is invalid, or there is no such network.
        TypeError: an argument has the wrong type.
    """
    if classes is not None and (isinstance(classes, bool) or not isinstance(classes, int)):
        raise TypeError(f"classes must be an int, not {type(classes).__name__}")
    progress = as_progress(progress, "done, total")
    expected = checked_network(network, classes, dialect)
    try:
        with WeightsFile.open(weights, progress, network=expected, timeout=timeout) as file:
            return diagnosis_of(file, expected)
    except OSError as error:
        return unreadable(weights, error, expected)


_REMOTE_ADVICE = {
    errno.EACCES: "check the credentials",
    errno.EISDIR: "name a file in it",
    errno.ENOENT: "check the address",
}


def unreadable(weights: WeightsSource, error: OSError, network: cfg.Network) -> Diagnosis:
    """Returns the diagnosis of a file that cannot be opened, such as an unreachable URL."""
    missing = isinstance(error, FileNotFoundError)
    is_remote = sources.is_url(weights)
    reason, advice = _reason(error), ""
    if is_remote:
        # A download that was refused says what to do after the semicolon.
        reason, _, advice = reason.partition("; ")
        advice = advice or _REMOTE_ADVICE.get(error.errno or 0, "")
    contents = detect.Contents(
        unreadable=reason,
        detected="missing" if missing else "unreadable",
        is_remote=is_remote,
        advice=advice,
    )
    return _not_weights(WeightsFile.named(weights), contents, Subject.of(network))


def diagnosis_of(file: WeightsFile, network: cfg.Network) -> Diagnosis:
    """Diagnoses an opened file against a network."""
    contents = detect.Contents.of(file.path)
    subject = Subject.of(network)
    if contents.detected is not None:
        return _not_weights(file, contents, subject)
    try:
        # Imports NumPy, which a missing file or another file type does not need.
        from yolotf.diagnosis import comparison

        compared = comparison.compare(file, contents, subject)
    except OSError as error:  # deleted, truncated or made unreadable in the meantime
        contents = replace(contents, unreadable=_reason(error), detected="unreadable")
        return _not_weights(file, contents, subject)
    header_bytes = compared.header.size_bytes if compared.header else WIDE
    return Diagnosis(
        file,
        file.size_bytes,
        compared.header,
        subject,
        matches=compared.matches,
        causes=compared.causes,
        warnings=compared.warnings,
        first_divergence=_divergence(subject, compared.place, header_bytes),
    )


def _not_weights(file: WeightsFile, contents: detect.Contents, subject: Subject) -> Diagnosis:
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


def matches_json(
    candidates: Iterable[same_size.Candidate], header: Header | None
) -> Iterator[dict[str, Any]]:
    """Yields the known networks of a file's size, as `--json` prints them."""
    for name, match, differing in candidates:
        row: dict[str, Any] = {
            "architecture": name,
            "classes": match.classes,
            "channels": match.channels,
            "header_bytes": header.size_bytes if header else WIDE,
            "layers": match.layers,
        }
        if differing:
            row["decodes_otherwise"] = [difference._asdict() for difference in differing]
        yield row


def checked_network(
    source: Any, classes: int | None, dialect: Dialect | None = None
) -> cfg.Network:
    """Returns the network that the caller passed; TypeError if it is something else."""
    if isinstance(source, (cfg.Network, str, os.PathLike)):
        return as_network(source, classes=classes, dialect=dialect)
    raise TypeError(
        "network must be a Network, a cfg's path or text or a stock name, "
        f"not {type(source).__name__}"
    )
