"""The cause for a file of another type, or a file that cannot be read."""

from __future__ import annotations

from yolotf.diagnosis import priors
from yolotf.diagnosis.causes import Finding, NotWeights
from yolotf.diagnosis.target import Subject
from yolotf.files.detect import Contents
from yolotf.weights import catalog
from yolotf.weights.file import WeightsFile
from yolotf.weights.header import float_counts


def cause(file: WeightsFile, contents: Contents, subject: Subject) -> Finding:
    """Returns the cause; for a Git LFS pointer it includes the network of the file it refers to."""
    pointer = contents.pointer
    stated = pointer.size_bytes if pointer else None
    return NotWeights(
        path=file.name,
        detected=contents.detected or "binary",
        points_to=None if stated is None else _pointed_to(stated, subject),
        oid=pointer.oid if pointer else None,
        pointer_bytes=stated,
        contents=contents,
    )


def _pointed_to(size_bytes: int, subject: Subject) -> dict[str, object] | None:
    """Returns the likeliest network whose file has this size; the subject's own is preferred."""
    own_architecture = subject.architecture
    matches = [match for _, floats in float_counts(size_bytes) for match in catalog.solve(floats)]
    if not matches:
        return None

    def penalty(match: catalog.Match) -> float:
        return match.penalty - priors.OWN_ARCHITECTURE * (match.architecture is own_architecture)

    best = min(matches, key=penalty)
    target: dict[str, object] = {"architecture": best.name, "classes": best.classes}
    return target if best.layers is None else {**target, "layers": best.layers}
