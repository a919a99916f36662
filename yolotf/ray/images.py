"""Reads untrusted images and detects in them; a bad image does not affect the rest of its batch."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy.typing as npt

from yolotf.errors import YolotfError
from yolotf.images.detections import Detections
from yolotf.images.read import ImageLike, TooLargeError, read_picture
from yolotf.inference import Detector

BAD_REQUEST, TOO_LARGE, SERVER_ERROR = 400, 413, 500

Array = npt.NDArray[Any]


class Failure(NamedTuple):
    """Why an image has no detections.

    Attributes:
        reason: a message that reveals nothing about this process.
        status: HTTP status code.
    """

    reason: str
    status: int


def read(image: ImageLike, channels: int, max_pixels: int) -> Array | Failure:
    """Returns the pixels of an encoded image or an image file, with `channels` channels."""
    try:
        return read_picture(image, channels, max_pixels=max_pixels)
    except TooLargeError as error:
        return Failure(str(error), TOO_LARGE)
    except OSError as error:
        # OSErrors from the system add the file, which the row already has, and an errno.
        return Failure(error.strerror or _not_an_image(error, image), BAD_REQUEST)
    except (ValueError, TypeError) as error:
        return Failure(_not_an_image(error, image), BAD_REQUEST)
    except MemoryError:
        return Failure("there is not enough memory for the image", SERVER_ERROR)


def _not_an_image(error: Exception, image: ImageLike) -> str:
    name = f"an image of {len(image)} bytes" if isinstance(image, bytes) else image
    reason = str(error).removeprefix(f"{name}: ")
    return reason if "not an image" in reason else f"not an image: {reason}"


def detect(detector: Detector, images: Sequence[Array]) -> list[Detections | Failure]:
    """Returns the detections of each image of a batch.

    If the batch fails, each image is tried alone: perhaps a single image needs too much memory.
    """
    try:
        return list(detector(list(images)))
    except (YolotfError, OSError, MemoryError, ValueError) as error:
        if len(images) == 1:
            reason = str(error) if isinstance(error, YolotfError) else type(error).__name__
            return [Failure(f"detection failed: {reason}", SERVER_ERROR)]
    return [result for image in images for result in detect(detector, [image])]
