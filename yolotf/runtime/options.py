"""Options of reading images and of inference, shared by detectors and classifiers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from yolotf import argument_numbers
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
        TypeError: a value has another type.
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
        numbers: dict[str, Any] = {
            "batch_size": argument_numbers.count("batch_size", self.batch_size),
            "bgr": argument_numbers.flag("bgr", self.bgr),
        }
        if self.threads is not None:
            numbers["threads"] = argument_numbers.count("threads", self.threads, most=_MAX_THREADS)
        if self.max_pixels is not None:
            numbers["max_pixels"] = argument_numbers.count("max_pixels", self.max_pixels)
        for name, number in numbers.items():
            object.__setattr__(self, name, number)
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
