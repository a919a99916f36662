"""Writing of SavedModels with assets and warmup requests; imports TensorFlow."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from yolotf.files import protobuf
from yolotf.graphs.saved_model import CLASS_NAMES, WARMUP

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)


def save(
    module: Any,
    signatures: Mapping[str, Any],
    folder: Path,
    *,
    names: Sequence[str],
    warmup: Mapping[str, Any],
) -> None:
    """Saves a module with class names and warmup requests.

    Args:
        module: a `tf.Module`.
        signatures: its functions of `images`, by name.
        folder: where to write it.
        names: the class names; may be empty.
        warmup: a `TensorProto` of `images` for each signature that TensorFlow Serving should run
            once before it reports the model as available. The first run of a graph takes several
            times as long as later ones.

    Raises:
        OSError: the folder cannot be written.
    """
    with _disk_errors_as_oserror(folder), _asset(names, folder.parent) as asset:
        if asset is not None:
            module.class_names = asset
        tf.saved_model.save(module, os.fspath(folder), signatures=dict(signatures))
    extra = folder / "assets.extra"
    extra.mkdir(exist_ok=True)
    if names:
        (extra / CLASS_NAMES).write_text(_lines(names), encoding="utf-8")
    with (
        _disk_errors_as_oserror(folder),
        tf.io.TFRecordWriter(os.fspath(extra / WARMUP)) as records,
    ):
        for signature, images in warmup.items():
            records.write(_prediction_log(signature, images.SerializeToString()))


@contextlib.contextmanager
def _disk_errors_as_oserror(folder: Path) -> Iterator[None]:
    """Raises OSError instead of the error that TensorFlow raises if it cannot write."""
    try:
        yield
    except (tf.errors.ResourceExhaustedError, tf.errors.UnknownError) as error:
        reason = next((code for code in _DISK_ERRORS if os.strerror(code) in str(error)), None)
        if reason is None and "write" not in str(error).lower():
            raise
        code = reason or errno.EIO
        raise OSError(code, os.strerror(code), os.fspath(folder)) from error


@contextlib.contextmanager
def _asset(names: Sequence[str], beside: Path) -> Iterator[Any]:
    """Yields the class names as an asset for `tf.saved_model.save`; None without names."""
    if not names:
        yield None
        return
    with tempfile.TemporaryDirectory(dir=beside) as folder:
        path = Path(folder) / CLASS_NAMES
        path.write_text(_lines(names), encoding="utf-8")
        yield tf.saved_model.Asset(os.fspath(path))


def _lines(names: Sequence[str]) -> str:
    return "\n".join(names) + "\n"


def _prediction_log(signature: str, images: bytes) -> bytes:
    """Returns a `PredictionLog` of one request, serialized.

    The message is defined in tensorflow_serving/apis/prediction_log.proto.

    Args:
        signature: the name of the signature.
        images: its argument, a serialized `TensorProto`.
    """
    model = protobuf.message(3, signature.encode())
    inputs = protobuf.message(1, b"images") + protobuf.message(2, images)
    request = protobuf.message(1, model) + protobuf.message(2, inputs)
    return protobuf.message(6, protobuf.message(1, request))


def gray_image(shape: Sequence[int]) -> Any:
    """Returns a `TensorProto` of a gray image.

    Args:
        shape: height, width, channels.
    """
    return tf.make_tensor_proto(127, tf.uint8, [1, *shape])  # stored as one value, repeated


def gray_jpeg(shape: Sequence[int]) -> Any:
    """Returns a `TensorProto` of a gray image encoded as JPEG.

    Args:
        shape: height, width, channels.
    """
    encoded = tf.io.encode_jpeg(tf.fill(list(shape), tf.constant(127, tf.uint8)))
    return tf.make_tensor_proto([encoded.numpy()], tf.string, [1])
