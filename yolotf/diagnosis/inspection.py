"""`inspect` and its result, `Inspection`: what a file holds, with or without its network.

Nothing here imports TensorFlow or Keras.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from yolotf._public import public
from yolotf.darknet import cfg
from yolotf.darknet.dialects import Dialect
from yolotf.diagnosis import layer_table, priors, summary_lines
from yolotf.diagnosis.file_diagnosis import checked_network, diagnosis_of, matches_json
from yolotf.diagnosis.layer_table import Array, LayerRow
from yolotf.diagnosis.report import Document
from yolotf.files import detect
from yolotf.files.fetching import TIMEOUT
from yolotf.progress import Progress, as_progress
from yolotf.weights import catalog, layout, same_size
from yolotf.weights.file import WeightsFile, WeightsSource
from yolotf.weights.header import Header


@public
@dataclass(frozen=True)
class Inspection:
    """The result of `inspect`; `str()` gives readable text, `to_dict()` the JSON.

    Attributes:
        path: name of the file.
        size_bytes: its size.
        detected: the type of a file that is not a weights file, as in a `not_weights` cause; None
            for a weights file.
        header: its header; None unless it is a weights file.
        matches: known networks of this size.
        layers: its layers and arrays, if its network was passed or is known.
        hint: details of `detected`, in words.
    """

    path: str
    size_bytes: int
    detected: str | None = None
    header: Header | None = None
    matches: tuple[catalog.Match, ...] = ()
    layers: tuple[LayerRow, ...] = ()
    hint: str = ""

    @property
    def candidates(self) -> list[same_size.Candidate]:
        """`matches` by name, likeliest first, with the cfg keys that decode differently."""
        return same_size.candidates(self.matches)

    def document(self) -> Document:
        """Returns the text to show: what the file is, and its arrays with their statistics."""
        table = summary_lines.arrays(self.layers) if self.layers else None
        return Document.of(self.path, self.detected is None, self._facts(), table)

    def _facts(self) -> Iterator[tuple[str, str]]:
        yield "file", summary_lines.file_line(self.size_bytes, self.header)
        if self.detected:
            hint = f": {self.hint}" if self.hint else ""
            yield "detected", self.detected + hint
            return
        candidates = self.candidates
        here = f"in {candidates[0].name}" if candidates else ""
        for number, line in enumerate(summary_lines.match_lines(candidates, here)):
            yield "or" if number else "is", line
        if not self.matches:
            yield "is", "no known network of this size"

    def to_dict(self) -> dict[str, Any]:
        """Returns the object that `yolotf inspect --json` prints."""
        header = self.header
        floats = max(0, self.size_bytes - header.size_bytes) // layout.FLOAT_BYTES if header else 0
        return {
            "path": self.path,
            "size_bytes": self.size_bytes,
            "detected": self.detected,
            "header": header._asdict() if header else None,
            "floats": floats,
            "matches": list(matches_json(self.candidates, header)),
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


@public
def inspect(
    weights: WeightsSource,
    network: cfg.Network | cfg.Source | None = None,
    *,
    classes: int | None = None,
    dialect: Dialect | None = None,
    progress: Progress | None = None,
    timeout: float | None = TIMEOUT,
) -> Inspection:
    """Describes a file: its header, the known networks of its size, and its arrays.

    Args:
        weights: the file, in any form that `load_darknet_weights` accepts.
        network: the network it was trained as; by default the most common known network of its
            size.
        classes: number of classes of the network, if it differs from the cfg's.
        dialect: the fork of Darknet that reads the cfg, see `parse_cfg`.
        progress: called as `progress("downloading", bytes_done, bytes_in_total)` during a
            download.
        timeout: seconds without data after which a download fails; None waits forever.

    Returns:
        The inspection; `detected` is set if the file is not a weights file.

    Raises:
        CfgError: the cfg is invalid, or there is no such network.
        OSError: the file cannot be read.
        TypeError: an argument has the wrong type.
    """
    progress = as_progress(progress, "done, total")
    known = None if network is None else checked_network(network, classes, dialect)
    with WeightsFile.open(weights, progress, network=known, timeout=timeout) as file:
        return _inspection(file, known)


def _inspection(file: WeightsFile, network: cfg.Network | None) -> Inspection:
    contents = detect.Contents.of(file.path)
    if contents.unreadable:
        # Opening the file raises the system's error; a directory or FIFO is never opened.
        if contents.detected in ("missing", "unreadable"):
            Path(file.path).open("rb").close()
        raise OSError(f"{file.name}: {contents.unreadable}")
    inspection = Inspection(file.name, contents.size_bytes, contents.detected, hint=contents.hint)
    if contents.detected is not None:
        return inspection
    if damage := detect.mangled(file.path):
        return replace(inspection, detected=damage)
    by_version = Header.parse(file.start)
    if by_version is None:
        return inspection
    if rest := (file.size_bytes - by_version.size_bytes) % layout.FLOAT_BYTES:
        # Both header widths are multiples of four, so the remainder is the same for either.
        hint = f"cut or damaged: {rest} of 4 bytes left after the last whole float"
        return replace(inspection, header=by_version, detected="damaged", hint=hint)
    parsed = file.with_header(by_version)
    matches: list[catalog.Match] = []
    for candidate in file.layouts():
        solved = catalog.solve(candidate.floats)
        # Prefer the header width with which the size is that of a more common network.
        margin = priors.CLEARER_SIZE
        if solved and (not matches or solved[0].penalty + margin < matches[0].penalty):
            matches, parsed = solved, candidate
    if network is not None:
        diagnosis = diagnosis_of(file, network)
        header = diagnosis.header or parsed.header
        layers = tuple(diagnosis.rows(scan_all=True))
    else:
        header = parsed.header
        layers = tuple(layer_table.of_known(parsed, matches[0])) if matches else ()
    return replace(inspection, header=header, matches=tuple(matches), layers=layers)
