"""Compares two results of `yolotf eval --json`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

from yolotf._public import renamed
from yolotf.errors import YolotfError
from yolotf.evaluation.coco import is_number
from yolotf.evaluation.coco_metrics import COCO_NUMBERS
from yolotf.files import opening
from yolotf.files.paths import StrPath

_SETTINGS = (
    "network",
    "size",
    "letter_box",
    "resize",
    "like",
    "data",
    "pictures",
    "truths",
    "iou_threshold",
    "points",
    "score_threshold",
)

_NUMBERS = ("map", "precision", "recall", "f1", "average_iou", "tp", "fp", "fn", "detections")


def read_result(path: StrPath) -> dict[str, Any]:
    """Reads the output of `yolotf eval --json`.

    Raises:
        OSError: the file cannot be read.
        YolotfError: it is not such an output.
    """
    try:
        result = json.loads(opening.read(path, max_bytes=opening.MAX_LIST_BYTES, kind="a result"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise YolotfError(
            f"{os.fspath(path)}: not JSON: {error}; give the output of `yolotf eval --json`",
            path=os.fspath(path),
        ) from error
    except RecursionError:
        raise _not_a_result(path, "it is nested too deeply") from None
    except ValueError:  # Python reads at most 4,300 digits
        raise _not_a_result(path, "a number in it has thousands of digits") from None
    if not isinstance(result, dict) or "map" not in result or "classes" not in result:
        raise _not_a_result(path, "map or classes are missing")
    coco = result.get("coco")
    if coco is not None and not isinstance(coco, dict):
        raise _not_a_result(path, "coco is not an object")
    numbers = {key: result.get(key) for key in _NUMBERS}
    numbers |= {key: coco[key] for key in COCO_NUMBERS if coco and key in coco}
    for key, value in numbers.items():
        if value is not None and not is_number(value):
            raise _not_a_result(path, f"{key} is not a number")
    classes = result["classes"]
    if not isinstance(classes, list):
        raise _not_a_result(path, "classes is not a list")
    for position, entry in enumerate(classes):
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise _not_a_result(path, f"class {position} has no name")
        if entry.get("ap") is not None and not is_number(entry["ap"]):
            raise _not_a_result(path, f"ap of class {position} is not a number")
    return result


def _not_a_result(path: StrPath, why: str) -> YolotfError:
    source = os.fspath(path)
    return YolotfError(f"{source}: not a result of `yolotf eval --json`: {why}", path=source)


def compare(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the differences between two results, `b` minus `a`.

    Returns:
        `settings`: the settings that differ, as [a, b]; `numbers`: name -> {"a", "b",
        "difference"}; `classes`: the same for the average precision of each class, the largest
        change first.
    """
    settings = {key: [a.get(key), b.get(key)] for key in _SETTINGS if a.get(key) != b.get(key)}
    numbers = {key: _difference(a.get(key), b.get(key)) for key in _NUMBERS}
    coco_a, coco_b = a.get("coco") or {}, b.get("coco") or {}
    numbers.update(
        (key, _difference(coco_a[key], coco_b[key]))
        for key in COCO_NUMBERS
        if key in coco_a and key in coco_b
    )
    ap_a = {entry["name"]: entry.get("ap") for entry in a["classes"]}
    ap_b = {entry["name"]: entry.get("ap") for entry in b["classes"]}
    classes = {name: _difference(ap_a.get(name), ap_b.get(name)) for name in (*ap_a, *ap_b)}
    ranked = sorted(classes.items(), key=lambda pair: -abs(pair[1]["difference"] or 0.0))
    return {"settings": settings, "numbers": numbers, "classes": dict(ranked)}


def _difference(a: float | None, b: float | None) -> dict[str, Any]:
    difference = None if a is None or b is None else b - a
    return {"a": a, "b": b, "difference": difference}


@renamed(found="comparison")
def comparison_lines(comparison: Mapping[str, Any], *, most: int = 20) -> Iterator[str]:
    """Yields the result of `compare` as lines of text, with at most `most` classes."""
    for name, (first, second) in comparison["settings"].items():
        yield f"{name} differs: {first} and {second}"
    if comparison["settings"]:
        yield ""
    yield f"{'':<24} {'a':>9} {'b':>9} {'b - a':>9}"
    for name, values in comparison["numbers"].items():
        yield _row(name, values)
    changed = [item for item in comparison["classes"].items() if item[1]["difference"]]
    if changed:
        yield ""
    yield from (_row(f"ap {name}", values) for name, values in changed[:most])
    if len(changed) > most:
        yield f"and {len(changed) - most} more classes, which changed less"


def _row(name: str, values: Mapping[str, Any]) -> str:
    def shown(value: float | None, sign: str = "") -> str:
        if value is None:
            return "-"
        return format(value, f"{sign}d" if isinstance(value, int) else f"{sign}.4f")

    difference = shown(values["difference"], "+")
    return f"{name:<24.24} {shown(values['a']):>9} {shown(values['b']):>9} {difference:>9}"
