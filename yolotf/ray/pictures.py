"""Pictures of strangers: each is read and detected in by itself, so that one fails alone."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy.typing as npt

from yolotf.errors import YolotfError
from yolotf.images.detections import Detections
from yolotf.images.read import Picture, TooLargeError, read_picture
from yolotf.inference import Detector

BAD_REQUEST, TOO_LARGE, SERVER_ERROR = 400, 413, 500

Array = npt.NDArray[Any]


class Failure(NamedTuple):
    """Why there are no detections of a picture.

    Attributes:
        reason: in words that show nothing of this process.
        status: HTTP's.
    """

    reason: str
    status: int


def read(picture: Picture, channels: int, max_pixels: int) -> Array | Failure:
    """The pixels of an encoded picture or of a file, for a network of so many channels."""
    try:
        return read_picture(picture, channels, max_pixels=max_pixels)
    except TooLargeError as error:
        return Failure(str(error), TOO_LARGE)
    except OSError as error:
        # The system's errors name the file, which a row has already, and a number.
        return Failure(error.strerror or _no_picture(error, picture), BAD_REQUEST)
    except (ValueError, TypeError) as error:
        return Failure(_no_picture(error, picture), BAD_REQUEST)
    except MemoryError:
        return Failure("there is no memory for the picture", SERVER_ERROR)


def _no_picture(error: Exception, picture: Picture) -> str:
    name = f"a picture of {len(picture)} bytes" if isinstance(picture, bytes) else picture
    reason = str(error).removeprefix(f"{name}: ")
    return reason if "not a picture" in reason else f"not a picture: {reason}"


def detect(detector: Detector, pictures: Sequence[Array]) -> list[Detections | Failure]:
    """What is in each of the pictures of a batch.

    Where the batch fails, each is tried by itself: it may be one of them that there is no memory
    for, and the others are not to go with it.
    """
    try:
        return list(detector(list(pictures)))
    except (YolotfError, OSError, MemoryError, ValueError) as error:
        if len(pictures) == 1:
            known = str(error) if isinstance(error, YolotfError) else type(error).__name__
            return [Failure(f"not detected: {known}", SERVER_ERROR)]
    return [found for picture in pictures for found in detect(detector, [picture])]
