"""Native resizing of images to a network's input; in TensorFlow it is graphs/operations.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from yolotf import _core
from yolotf.darknet import cfg
from yolotf.darknet.detection_options import Resize
from yolotf.graphs.operations import letter_box_size


def fit(
    images: Sequence[npt.NDArray[Any]],
    shape: cfg.Shape,
    *,
    letter_box: bool,
    threads: int = 1,
    resize: Resize = "darknet",
) -> npt.NDArray[np.float32]:
    """Resizes images of any sizes as Darknet or OpenCV does; see `operations.fit`.

    Args:
        images: [height, width, channels], uint8, or float32 in 0..1.
        shape: shape of the network's input.
        letter_box: keep their proportions.
        threads: number of threads.
        resize: `darknet`; `opencv`: as `cv2.resize` of uint8, within 1 of 255; `opencv_exact`: as
            with INTER_LINEAR_EXACT, to the last bit.

    Returns:
        [images, rows, columns, channels] float32, 0..1.
    """
    size = shape.height, shape.width
    resized_sizes = [
        letter_box_size((image.shape[0], image.shape[1]), size) if letter_box else size
        for image in images
    ]
    contiguous = [np.ascontiguousarray(image) for image in images]
    return _core.fit(
        contiguous,
        (*size, shape.channels),
        resized_sizes,
        threads=threads,
        opencv=resize == "opencv",
        exact=resize == "opencv_exact",
    )
