"""The folder of a SavedModel, written atomically. TensorFlow is not imported."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from yolotf.files import atomic, output_target
from yolotf.files.paths import StrPath
from yolotf.graphs import tf_errors

CLASS_NAMES = "classes.names"
"""The file of class names, one per line: an asset, and also in `assets.extra`."""

WARMUP = "tf_serving_warmup_requests"
"""Where TensorFlow Serving looks (servables/tensorflow/saved_model_warmup_util.h)."""

PARTS = (
    "saved_model.pb",
    "fingerprint.pb",
    "variables/variables.index",
    "variables/variables.data-00000-of-00001",
    f"assets/{CLASS_NAMES}",
    f"assets.extra/{CLASS_NAMES}",
    f"assets.extra/{WARMUP}",
)
"""What yolotf and TensorFlow write into the folder; other files are the user's."""


def check(folder: StrPath, *, overwrite: bool = True, inputs: Iterable[StrPath] = ()) -> Path:
    """Returns the resolved path of `folder` if a SavedModel may be written into it.

    Raises:
        OSError: it is a file; or holds a SavedModel and `overwrite` is False; or holds one of the
            inputs in place of a part of the SavedModel; or its path is not UTF-8.
    """
    target = output_target.checked_target(
        folder, folder=True, overwrite=overwrite, inputs=inputs, parts=PARTS
    )
    try:
        os.fspath(target).encode()
    except UnicodeEncodeError:
        reason = "TensorFlow writes to paths in UTF-8 only; name another folder"
        raise OSError(errno.EILSEQ, reason, os.fspath(target)) from None
    return target


@contextlib.contextmanager
def replacing(folder: StrPath, *, overwrite: bool = True) -> Iterator[Path]:
    """Yields a temporary folder for a SavedModel, which is moved to `folder` at the end.

    Args:
        folder: the destination. An older SavedModel is replaced; other files there are kept.
        overwrite: False: fail if the folder holds a SavedModel.

    Raises:
        OSError: the folder cannot be written (TensorFlow raises its own exceptions for that), or
            holds a SavedModel and `overwrite` is False; its contents are unchanged.
    """
    check(folder, overwrite=overwrite).parent.mkdir(parents=True, exist_ok=True)
    with atomic.replacing_folder(folder, parts=PARTS, overwrite=overwrite) as ready:
        try:
            yield ready
        except Exception as error:
            refused = tf_errors.system_error(error, folder)
            if refused is None:
                raise
            raise refused from error
