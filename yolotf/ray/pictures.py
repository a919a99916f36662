"""Reads and detects in untrusted images; a bad image fails alone, not its whole batch."""

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


def read(picture: ImageLike, channels: int, max_pixels: int) -> Array | Failure:
    """Returns the pixels of an encoded image or an image file, with `channels` channels."""
    try:
        return read_picture(picture, channels, max_pixels=max_pixels)
    except TooLargeError as error:
        return Failure(str(error), TOO_LARGE)
    except OSError as error:
        # OSErrors from the system add the file, which the row already has, and an errno.
        return Failure(error.strerror or _no_picture(error, picture), BAD_REQUEST)
    except (ValueError, TypeError) as error:
        return Failure(_no_picture(error, picture), BAD_REQUEST)
    except MemoryError:
        return Failure("there is no memory for the image", SERVER_ERROR)


def _no_picture(error: Exception, picture: ImageLike) -> str:
    name = f"an image of {len(picture)} bytes" if isinstance(picture, bytes) else picture
    reason = str(error).removeprefix(f"{name}: ")
    return reason if "not an image" in reason else f"not an image: {reason}"


def detect(detector: Detector, pictures: Sequence[Array]) -> list[Detections | Failure]:
    """Returns the detections of each image of a batch.

    If the batch fails, each image is tried alone: perhaps only one of them needs more memory than
    there is.
    """
    try:
        return list(detector(list(pictures)))
    except (YolotfError, OSError, MemoryError, ValueError) as error:
        if len(pictures) == 1:
            known = str(error) if isinstance(error, YolotfError) else type(error).__name__
            return [Failure(f"not detected: {known}", SERVER_ERROR)]
    return [found for picture in pictures for found in detect(detector, [picture])]
