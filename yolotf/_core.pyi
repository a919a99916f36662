import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

CODES: list[str]
FILE_CODES: list[str]
HEAD_FIELDS: list[str]
HEAD_KINDS: list[str]
HUGE: float
ORDERS: list[str]
PLAN_COLUMNS: int
PLAN_FIELDS: list[str]
RESULT_FIELDS: list[str]
ROLES: list[str]
SUPPRESSION_KINDS: list[str]

class NativeError(ValueError):
    code: str
    segment: int
    axis: int
    role: int
    offset: int
    end: int
    expected: int
    found: int

def read_start(path: str | os.PathLike[str]) -> tuple[bytes, int]: ...
def parse_header(
    start: bytes, file_bytes: int, floats: int = -1
) -> tuple[int, int, int, int, int]: ...
def version_header_bytes(major: int, minor: int) -> int: ...
def stores_transposed(major: int, minor: int) -> bool: ...
def scatter(
    path: str | os.PathLike[str],
    header: bytes,
    expected_bytes: int,
    plan: NDArray[np.int64],
    arrays: list[NDArray[np.generic]],
    *,
    cast: bool = False,
    verify: bool = True,
    threads: int = 1,
) -> tuple[int, int, int, int]: ...
def examine_content(
    path: str | os.PathLike[str],
    header_bytes: int,
    plan: NDArray[np.int64],
    *,
    threads: int = 1,
) -> list[tuple[str, int, str, int, int, int, int]]: ...
def scan(
    path: str | os.PathLike[str],
    offsets: NDArray[np.int64],
    counts: NDArray[np.int64],
    *,
    threads: int = 1,
) -> dict[str, NDArray[np.generic]]: ...
def copy_file(
    path: str | os.PathLike[str], memory: NDArray[np.uint8], threads: int = 1
) -> bool: ...
def has_avx512() -> bool: ...
def scatter_isa() -> str: ...
def force_portable(portable: bool) -> None: ...

class ClassTree:
    def __init__(self, parents: Sequence[int], groups: Sequence[int]) -> None: ...

def detections(
    raws: list[NDArray[np.float32]],
    heads: NDArray[np.int64],
    numbers: NDArray[np.float64],
    input_size: tuple[int, int],
    image_sizes: NDArray[np.int64],
    *,
    score: float,
    iou: float,
    max_boxes: int,
    suppression: int = 0,
    beta: float = 0.6,
    letter_box: bool = False,
    agnostic: bool = False,
    unwanted: list[int] = [],
    tree: ClassTree | None = None,
    threads: int = 1,
    order: int = 0,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32], NDArray[np.int32]]: ...
def fit(
    images: list[NDArray[Any]],
    shape: tuple[int, int, int],
    inner: list[tuple[int, int]],
    *,
    threads: int = 1,
    opencv: bool = False,
    exact: bool = False,
) -> NDArray[np.float32]: ...
