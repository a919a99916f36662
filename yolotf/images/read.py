"""Reads images: paths, Pillow images, arrays, tensors, encoded bytes and open files.

Detectors, classifiers and commands all read images here, so they accept and refuse the same. No
TensorFlow.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, Union

import numpy as np
import numpy.typing as npt

from yolotf import argument_numbers
from yolotf._public import renamed, warn_caller
from yolotf.errors import MissingPackageError, OutOfMemoryError, optional_package
from yolotf.files import detect, magic, opening
from yolotf.images.limits import MAX_PIXELS as MAX_PIXELS
from yolotf.interfaces import SupportsArray
from yolotf.text import first_line, plural, printable

if TYPE_CHECKING:
    from PIL import Image

ImageLike = Union[
    str,
    "os.PathLike[str]",
    npt.NDArray[Any],
    SupportsArray,
    "Image.Image",
    bytes,
    bytearray,
    memoryview,
    BinaryIO,
]

ImageT = TypeVar("ImageT", bound=ImageLike)
Images = list[ImageT] | tuple[ImageT, ...]
"""Several images. An array [batch, height, width, channels], and a one-dimensional array of paths,
encoded images or arrays, also count as several."""

_ROUNDING = 1e-3
"""Tolerance for floats outside 0..1: resizing and colour conversion overshoot slightly."""


@renamed(picture="image")
def open_picture(
    image: ImageLike, *, bgr: bool = False, max_pixels: int | None = MAX_PIXELS
) -> Image.Image:
    """Returns an 8-bit Pillow image, rotated as its EXIF orientation says.

    Of a truncated JPEG the intact part is read, of several frames the first; both with a warning.

    Args:
        image: a path; a Pillow image; an encoded image as bytes or an open binary file; an array
            or tensor [height, width] or [height, width, 1, 3 or 4], RGB, uint8 or float in 0..1.
        bgr: arrays are in blue, green, red order, as OpenCV reads them. Does not affect files.
        max_pixels: larger files are refused before they are decoded; None: no limit.

    Raises:
        OSError: a file cannot be read, is not an image, or has more than `max_pixels`.
        MissingPackageError: the image is HEIC, and pillow-heif is not installed.
        TypeError: the argument is of another type, such as None.
        ValueError: the shape or the values of an array are not those of an image.
    """
    from PIL import Image  # imported lazily: keeps `import yolotf` fast

    if max_pixels is not None:
        max_pixels = argument_numbers.count("max_pixels", max_pixels)
    image = _encoded(image)
    if isinstance(image, Image.Image):
        if getattr(image, "tile", None):  # not decoded yet
            _check_format(image, _name_of(image))
            _check_pixels(image, _name_of(image), max_pixels)
        return _upright(image)
    if isinstance(image, str | os.PathLike):
        name = os.fspath(image)
        try:
            file = opening.open_regular(image)
        except opening.NotRegularError as error:
            raise OSError(printable(f"{name}: {error.strerror}")) from None
        with file:
            return _decoded(file, name, image, max_pixels)
    if isinstance(image, bytes | bytearray | memoryview):
        name = f"an image of {len(image)} bytes"
        return _decoded(io.BytesIO(image), name, bytes(image), max_pixels)
    if hasattr(image, "read") and not hasattr(image, "__array__"):
        content = image.read()
        if isinstance(content, str):
            raise TypeError(f"{_name_of(image)}: is open for reading text; open it with 'rb'")
        path = getattr(image, "name", None)
        name = path if isinstance(path, str) else f"an open file of {len(content)} bytes"
        return _decoded(io.BytesIO(content), name, content, max_pixels)
    array = _in_bytes(check_array(image, bgr=bgr))
    if array.shape[2] not in (1, 3, 4):
        raise ValueError(
            "an image is [height, width] or [height, width, 1, 3 or 4], not "
            f"{array.shape}{_channels_last(array.shape)}"
        )
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


@renamed(picture="image")
def read_picture(
    image: ImageLike, channels: int, *, bgr: bool = False, max_pixels: int | None = MAX_PIXELS
) -> npt.NDArray[Any]:
    """Returns the pixels for a network with `channels` input channels.

    Args:
        image: see `open_picture`; an array may also have `channels` channels, whatever their
            number.
        channels: input channels of the network. Images are converted to gray for 1 and to RGB for
            3; for other numbers the channels are taken as stored.
        bgr: see `open_picture`.
        max_pixels: see `open_picture`.

    Returns:
        [height, width, channels], uint8, or float32 in 0..1 for float input.

    Raises:
        OSError, TypeError, ValueError: see `open_picture`; or the network has neither 1 nor 3
            channels and the image has another number.
    """
    image = _encoded(image)
    if is_array(image):
        array = check_array(image, bgr=bgr)
        if array.shape[2] == channels:
            return array
        image, bgr = array, False  # check_array has converted it to RGB
    opened = open_picture(image, bgr=bgr, max_pixels=max_pixels)
    if channels in (1, 3):
        mode = "L" if channels == 1 else "RGB"
        pixels = np.asarray(opened if opened.mode == mode else opened.convert(mode))
        return pixels[..., None] if channels == 1 else pixels
    stored = len(opened.getbands())
    if stored != channels:
        raise ValueError(
            f"{_name_of(image)} has {plural(stored, 'channel')}, the network takes "
            f"{channels} channels; give an image or an array of {channels}"
        )
    return np.asarray(opened)


def images_of(given: ImageLike | Images[ImageT]) -> tuple[Sequence[ImageLike], bool]:
    """Returns the images in the argument of a detector or classifier.

    Args:
        given: an image; or a list, a tuple, an array [batch, height, width, channels], or a
            one-dimensional array of objects or strings. Servers that batch requests pass such
            arrays.

    Returns:
        The images, and whether the argument was several images.

    Raises:
        TypeError: the argument is a symbolic tensor.
    """
    if isinstance(given, list | tuple):
        return given, True
    if is_array(given):
        array = _values(given)
        if array.ndim == 4 or (array.ndim == 1 and array.dtype.kind in "OSU"):
            return list(array), True
        return [array], False
    return [given], False


def _encoded(image: Any) -> Any:
    """Returns the bytes or the path in a scalar array or tensor; else the argument.

    `tf.io.read_file` returns such a tensor.
    """
    if getattr(image, "shape", None) == () and hasattr(image, "__array__"):
        with contextlib.suppress(Exception):  # a symbolic tensor, refused later
            content = np.asarray(image).item()
            return content if isinstance(content, bytes | str) else image
    return image


def is_array(image: object) -> bool:
    """Whether the image is an array or a tensor, not a file or a Pillow image.

    NumPy's scalars `np.str_` and `np.bytes_` are strings.
    """
    if not hasattr(image, "__array__") or isinstance(image, str | bytes):
        return False
    pillow = sys.modules.get("PIL.Image")  # not imported for an array: it takes 10 ms
    return pillow is None or not isinstance(image, pillow.Image)


def check_array(image: Any, *, bgr: bool = False) -> npt.NDArray[Any]:
    """Returns an array or tensor as [height, width, channels] uint8 or float32, in RGB order.

    Raises:
        TypeError: the argument is not an array, or its dtype is not that of an image.
        ValueError: the shape is not that of an image, or floats are not in 0..1.
        OutOfMemoryError: the array must be copied, and there is not enough memory.
    """
    if image is None:
        raise TypeError(
            "an image is None; cv2.imread returns None for a file it cannot read: check the path"
        )
    if isinstance(image, list | tuple | dict | int | float) or not hasattr(image, "__array__"):
        raise TypeError(
            f"an image is a path, an array, a Pillow image, bytes or an open file, "
            f"not {type(image).__name__}"
        )
    array = _values(image)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim == 4:
        raise ValueError(
            f"an image is [height, width, channels], not {array.shape}; give the images "
            "of a batch one by one, as a list: list(array)"
        )
    if array.ndim != 3:
        raise ValueError(f"an image is [height, width, channels], not {array.shape}")
    try:
        return _checked(array, bgr)
    except MemoryError:
        raise OutOfMemoryError(
            f"there is no memory for a copy of an image of shape {array.shape}, {array.dtype}; "
            "give a smaller image, or uint8",
            source=None,
            input_size=array.shape[:2],
            batch=1,
            needed=array.size * array.itemsize,
            allowed=None,
        ) from None


def _values(image: Any) -> npt.NDArray[Any]:
    """Converts an array or tensor to an array.

    Raises:
        TypeError: the argument is a symbolic tensor, or a tensor that NumPy cannot read.
    """
    try:
        return np.asarray(image)
    except Exception as error:  # libraries raise their own types
        kind = type(image).__name__
        if type(image).__module__.partition(".")[0] in ("tensorflow", "keras", "tf_keras"):
            raise TypeError(
                f"an image is a {kind} without a value, as inside a tf.function; "
                "use yolotf.inference.build_function there"
            ) from error
        raise TypeError(
            f"an image is a {kind} that NumPy cannot read: {first_line(error)}; give a NumPy array"
        ) from error


def _checked(array: npt.NDArray[Any], bgr: bool) -> npt.NDArray[Any]:
    if array.size == 0:
        raise ValueError(f"an image of shape {array.shape} is empty; check how it was cut out")
    if bgr and array.shape[2] >= 3:
        array = np.concatenate([array[..., 2::-1], array[..., 3:]], 2)
    check_dtype(str(array.dtype), array.dtype.kind)
    if array.dtype == np.uint8:
        return array
    array = array.astype(np.float32, copy=False)
    check_range(float(array.min()), float(array.max()))
    return array


def check_dtype(dtype: str, kind: str) -> None:
    """Checks the type of pixels: uint8 or any float.

    Args:
        dtype: its name.
        kind: NumPy's letter for it, `np.dtype.kind`.

    Raises:
        TypeError: it is another type.
    """
    if dtype == "uint8":
        return
    if kind in "iub":
        fix = {
            "uint16": "(array / 257).astype('uint8') for 16 bits",
            "bool": "array.astype('uint8') * 255",
        }.get(dtype, "array.astype('uint8') for 0..255")
        raise TypeError(f"an array of {dtype} is not an image: uint8 or floats in 0..1; {fix}")
    if kind != "f" and "float" not in dtype:  # bfloat16 is of kind V
        raise TypeError(f"an array of {dtype} is not an image: uint8 or floats in 0..1")


def check_range(low: float, high: float) -> None:
    """Checks the range of pixels that are floats.

    Args:
        low: the lowest value, NaN if there is a NaN.
        high: the highest.

    Raises:
        ValueError: they are not in 0..1.
    """
    if are_in_range(low) and are_in_range(high):
        return
    problem = f"reaches from {low:g} to {high:g}" if low == low else "holds NaN"
    fix = "divide it by 255" if 1 < high <= 255 and low >= 0 else "scale it to 0..1"
    raise ValueError(f"a float image is in 0..1, this array {problem}; {fix}, or give uint8")


def are_in_range(values: Any) -> Any:
    """Whether each value, an array or a tensor, is in 0..1; NaN is not."""
    return (values >= -_ROUNDING) & (values <= 1 + _ROUNDING)


def _channels_last(shape: Sequence[int]) -> str:
    """Returns advice for an image that seems to have its channels first, after a semicolon."""
    if len(shape) == 3 and shape[0] in (1, 3, 4):
        return "; if its channels are first, move them last: array.transpose(1, 2, 0)"
    return ""


def _in_bytes(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array
    pixels: npt.NDArray[np.uint8] = (array.clip(0, 1) * 255).round().astype(np.uint8)
    return pixels


def _check_pixels(image: Image.Image, name: str, most: int | None) -> None:
    """Raises TooLargeError for an image of too many pixels, before it is decoded."""
    width, height = image.size
    if most is not None and width * height > most:
        raise TooLargeError(
            printable(
                f"{name}: {width:,}x{height:,} are {width * height:,} pixels, more than {most:,}; "
                "scale the image down, or raise the limit: max_pixels=, or --max-pixels"
            )
        )


_MAX_SCANS = 100
"""Maximum scans of a progressive JPEG: cjpeg writes no more (libjpeg's rdswitch.c), and usual are
10. A scan of a few bytes takes the time for the whole image."""
_NESTED = "{} holds an image of another format, of any size; convert it to PNG"
_REFUSED_FORMATS = {
    # Pillow runs Ghostscript for it, and PostScript may run forever.
    "EPS": "EPS is a program in PostScript, not pixels; convert it to PNG",
    **{name: _NESTED.format(name) for name in ("BLP", "ICNS", "ICO", "IPTC")},
}
"""Pillow's names of formats whose header says nothing about the time and memory for decoding."""
_ICO = b"\0\0\1\0"


def _check_format(image: Image.Image, name: str) -> None:
    """Raises UnboundedError, before it is decoded, if decoding has no known limit."""
    if reason := _REFUSED_FORMATS.get(image.format or ""):
        raise UnboundedError(printable(f"{name}: {reason}"))
    if any(tile.codec_name == "fits_gzip" for tile in getattr(image, "tile", ())):
        reason = "compressed FITS is decoded pixel by pixel in Python; convert it to PNG"
        raise UnboundedError(printable(f"{name}: {reason}"))
    if image.format in ("JPEG", "MPO") and "progressive" in image.info:
        scans = _scans(image)
        if scans > _MAX_SCANS:
            raise UnboundedError(
                printable(
                    f"{name}: a JPEG of {scans:,} scans, at most {_MAX_SCANS} are decoded; save it "
                    "as a baseline JPEG"
                )
            )


def _scans(image: Image.Image) -> int:
    """Returns the number of scans of a JPEG that is not decoded yet."""
    file: BinaryIO | None = getattr(image, "fp", None)
    if file is None:  # closed by the caller: cannot be decoded
        return 0
    position = file.tell()
    file.seek(0)
    content = file.read()
    file.seek(position)
    scans, place = 0, 2
    while marker := _MARKER.search(content, place):
        code = content[marker.start() + 1]
        if code == _END_OF_IMAGE:
            break
        scans += code == _START_OF_SCAN
        place = marker.end() + int.from_bytes(content[marker.end() : marker.end() + 2], "big")
    return scans


_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
"""A marker of a JPEG that has a length, or ends the image; others are within the data of scans."""
_END_OF_IMAGE = 0xD9
_START_OF_SCAN = 0xDA


class TooLargeError(OSError):
    """An image with too many pixels."""


class UnboundedError(OSError):
    """An image whose size says nothing about the time and memory for decoding it."""


def _decoded(
    source: Any, name: str, content: str | os.PathLike[str] | bytes, max_pixels: int | None
) -> Image.Image:
    """Decodes an image; `content` is inspected to explain a failure."""
    from PIL import Image  # imported lazily: keeps `import yolotf` fast

    try:
        with _identified(source, name) as image:
            _check_format(image, name)
            _check_pixels(image, name, max_pixels)
            _warn_of_frames(image, name)
            return _upright(image, ours=True)
    except (TooLargeError, UnboundedError, MissingPackageError):
        raise
    except OSError as error:
        if error.strerror:  # from the system: no such file, and so on
            raise
        if "truncated" in str(error):
            image = _truncated_jpeg(source, name, max_pixels)
            if image is not None:
                return image
        raise OSError(printable(f"{name}: {_why_not_image(content, error)}")) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        fix = "scale the image down, or raise PIL.Image.MAX_IMAGE_PIXELS"
        pixels = str(error).partition(", could be")[0].lower()
        raise OSError(printable(f"{name}: {pixels} of Pillow's; {fix}")) from error
    except MemoryError as error:
        raise OSError(printable(f"{name}: there is no memory for its pixels")) from error
    except Exception as error:  # Pillow's decoders raise arbitrary exceptions on damaged files
        reason = f"not read as an image: {str(error).rstrip('.') or type(error).__name__}"
        raise OSError(printable(f"{name}: {reason}")) from error


_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_FRAMED = ("AVIF", "GIF", "PNG", "TIFF", "WEBP")
"""Pillow's names of formats whose further images are video frames or pages."""


def _identified(source: BinaryIO, name: str) -> Image.Image:
    """Opens an image and reads its header; pillow-heif reads HEIC.

    Raises:
        MissingPackageError: the image is HEIC, and pillow-heif is not installed.
        UnboundedError: the image is an ICO.
        OSError: Pillow does not recognise the format.
    """
    from PIL import Image, UnidentifiedImageError  # imported lazily: keeps `import yolotf` fast

    start = source.read(12)
    source.seek(0)
    if start.startswith(_ICO):  # Pillow decodes it while it opens it
        raise UnboundedError(printable(f"{name}: {_REFUSED_FORMATS['ICO']}"))
    try:
        return Image.open(source)
    except UnidentifiedImageError:
        source.seek(0)
        if start[4:8] != b"ftyp" or start[8:] not in _HEIF_BRANDS:
            raise
    with optional_package("pillow_heif", f"{name}: HEIC needs pillow-heif", "yolotf[heic]"):
        import pillow_heif  # optional
    pillow_heif.register_heif_opener()
    return Image.open(source)


def _warn_of_frames(image: Image.Image, name: str) -> None:
    """Warns that only the first of several images in a file is read."""
    several = False
    with contextlib.suppress(Exception):  # the first frame may be intact where the second is not
        several = image.format in _FRAMED and bool(getattr(image, "is_animated", False))
        image.seek(0)
    if several:
        advice = "convert the file to a video to read all"
        warn_caller(printable(f"{name}: has several frames; only the first is read; {advice}"))


def _truncated_jpeg(source: BinaryIO, name: str, max_pixels: int | None) -> Image.Image | None:
    """Returns a truncated JPEG with the rest gray, with a warning; None if all is missing.

    An end-of-image marker is appended: libjpeg decodes the data before it.
    """
    from PIL import Image  # imported lazily: keeps `import yolotf` fast

    source.seek(0)
    content = source.read()
    if not content.startswith(b"\xff\xd8\xff"):
        return None
    try:
        with Image.open(io.BytesIO(content + b"\xff\xd9")) as image:
            _check_pixels(image, name, max_pixels)
            image.load()
            pixels = np.asarray(image)
            rest = pixels[-1, -1]
            if (pixels[32:] == rest).all() and (pixels[:, 32:] == rest).all():
                return None  # header only; libjpeg invents a first block
            upright = _upright(image, ours=True)
    except Exception:  # the original file's error says more
        return None
    warn_caller(printable(f"{name}: cut short; read as far as it goes"))
    return upright


def _why_not_image(content: str | os.PathLike[str] | bytes, error: OSError) -> str:
    """Returns why `content` is not an image, or Pillow's error if the image is damaged."""
    if isinstance(content, bytes):
        kind = magic.kind_of(content, size=len(content), end=content[-8:])
        start = content
    else:
        contents = detect.Contents.of(content)
        if contents.unreadable:
            return contents.unreadable
        kind, start = contents.kind, contents.start
    if kind is None and magic.is_weights(start):
        return "a Darknet .weights file, not an image; are the arguments in order?"
    if kind is not None and not kind.is_image:
        fix = "; unpack it first" if kind.is_packed else ""
        return f"{kind.description}, not an image{_FIXES.get(kind.detected, fix)}"
    from PIL import UnidentifiedImageError  # imported lazily: keeps `import yolotf` fast

    if isinstance(error, UnidentifiedImageError):
        return "not an image that Pillow can read"
    return str(error).rstrip(".")


_FIXES = {"git_lfs_pointer": "; run: git lfs pull"}


def _upright(image: Image.Image, *, ours: bool = False) -> Image.Image:
    """Returns an 8-bit image, rotated as EXIF says; modifies an image that is `ours` in place."""
    from PIL import Image, ImageOps  # imported lazily: keeps `import yolotf` fast

    if ours:
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        turned = image
    else:
        turned = ImageOps.exif_transpose(image)
    if turned.mode.startswith("I"):
        # 16 bits a channel, in mode I, too; Pillow would clip values at 255.
        values = np.asarray(turned).astype(np.float64)
        low, high = float(values.min(initial=0)), float(values.max(initial=0))
        if low < 0 or high > 65535:
            raise ValueError(f"pixels from {low:g} to {high:g}: images have 8 or 16 bits a channel")
        is_narrow = turned.mode == "I" and image.format is None and high < 256
        return Image.fromarray((values / (1 if is_narrow else 257)).round().astype(np.uint8))
    if turned.mode == "F":
        return Image.fromarray(_in_bytes(check_array(np.asarray(turned)))[..., 0])
    return turned


def _name_of(image: Any) -> str:
    """Returns the image's path, for messages."""
    if isinstance(image, str | os.PathLike):
        return str(Path(image))
    name = getattr(image, "filename", None) or getattr(image, "name", None)
    return str(name) if isinstance(name, str) and name else "an image"
