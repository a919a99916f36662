"""How images are read and computed: the arguments that detectors and classifiers share."""

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

_MOST_THREADS = 4096
"""More than there are processors anywhere; TensorFlow ends the process where it gets no more."""


@dataclass(frozen=True, kw_only=True)
class ServingOptions:
    """How a network is served.

    Attributes:
        batch_size: images of a list that go through the network at once.
        threads: to compute with, apart from all others'; None: the processors that the process
            may use.
        bgr: arrays hold blue first, as OpenCV reads images; files are what they are.
        max_pixels: a file of more is refused before it is decoded; None: no limit.
        timeout: seconds that the server of weights at a URL may be silent, also in a reload; None:
            any.
        engine: what computes the network: `tensorflow`, `openvino` or `onnxruntime`.
        precision: that it is computed in; `bfloat16` is faster on processors that have it, has
            some 3 digits, and is for `openvino`.

    Raises:
        ValueError: a value out of range.
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
            if self.threads > _MOST_THREADS:
                raise ValueError(f"threads={self.threads} must be at most {_MOST_THREADS}")
        for what, value, known in (
            ("engine", self.engine, ENGINES),
            ("precision", self.precision, PRECISIONS),
        ):
            if value not in known:
                raise ValueError(f"{what}={value!r}; one of {', '.join(known)}")
        if self.precision == "bfloat16" and self.engine != "openvino":
            raise ValueError(
                f"precision='bfloat16' with engine={self.engine!r}: only engine='openvino' "
                "computes in it; leave precision out"
            )
