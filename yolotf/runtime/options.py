"""Options of reading images and of inference, shared by detectors and classifiers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from yolotf.darknet.detection_options import check_count
from yolotf.files.fetching import TIMEOUT
from yolotf.images.limits import MAX_PIXELS

EngineName = Literal["tensorflow", "openvino", "onnxruntime"]
Precision = Literal["float32", "bfloat16"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

_MAX_THREADS = 4096
"""More than any machine has processors; TensorFlow aborts if it cannot create a thread."""


@dataclass(frozen=True, kw_only=True)
class ServingOptions:
    """How a network is served.

    Attributes:
        batch_size: how many images of a list are computed at once.
        threads: size of the detector's own thread pool; None: the number of processors available to
            the process.
        bgr: arrays are BGR, as OpenCV reads images; image files are unaffected.
        max_pixels: larger image files are rejected before they are decoded; None: no limit.
        timeout: seconds without data after which a download of weights from a URL fails, also in a
            reload; None: no limit.
        engine: the inference engine: `tensorflow`, `openvino` or `onnxruntime`.
        precision: `float32`, or `bfloat16` with `openvino`: faster on processors that support it,
            accurate to about 3 digits.

    Raises:
        ValueError: a value is out of range.
    """

    batch_size: int = 8
    threads: int | None = None
    bgr: bool = False
    max_pixels: int | None = MAX_PIXELS
    timeout: float | None = TIMEOUT
    engine: EngineName = "tensorflow"
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        check_count("batch_size", self.batch_size)
        if self.threads is not None:
            check_count("threads", self.threads)
            if self.threads > _MAX_THREADS:
                raise ValueError(f"threads={self.threads} must be at most {_MAX_THREADS}")
        for name, value, choices in (
            ("engine", self.engine, ENGINES),
            ("precision", self.precision, PRECISIONS),
        ):
            if value not in choices:
                raise ValueError(f"{name}={value!r} must be one of {', '.join(map(repr, choices))}")
        if self.precision == "bfloat16" and self.engine != "openvino":
            raise ValueError(
                f"precision='bfloat16' needs engine='openvino', not {self.engine!r}; change the "
                "engine, or leave precision out"
            )
