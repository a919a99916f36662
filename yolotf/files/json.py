"""JSON encoding: NaN and infinity become null, and float32 numbers have no digits too many."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Returns `value` as JSON; NaN and infinity, as in oversized boxes, become null."""
    try:
        return json.dumps(value, indent=indent, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    """Replaces NaN and infinity by None, at any depth."""
    if isinstance(value, dict):
        return {key: _finite(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(member) for member in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def shortest(numbers: Iterable[np.float32]) -> list[float]:
    """Returns float32 numbers with only the digits that tell them apart.

    So JSON shows 745.3728, not the 745.372802734375 of the same number in double precision. Read
    as float32, both are the same.
    """
    return [float(str(number)) for number in numbers]
