"""The folder of a SavedModel, and how it is written. No TensorFlow here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from yolotf.files import atomic
from yolotf.files.sources import StrPath
from yolotf.graphs import tf_errors

CLASS_NAMES = "classes.names"
"""The file of class names, one a line: an asset, and in `assets.extra` as well."""

WARMUP = "tf_serving_warmup_requests"
"""Where TensorFlow Serving looks (servables/tensorflow/saved_model_warmup_util.h)."""

PARTS = (
    "saved_model.pb",
    "fingerprint.pb",
    "variables",
    f"assets/{CLASS_NAMES}",
    f"assets.extra/{CLASS_NAMES}",
    f"assets.extra/{WARMUP}",
)
"""What yolotf and TensorFlow write into it; whatever else is there is its owner's."""


def check(folder: StrPath, *, overwrite: bool = True) -> Path:
    """The real path of `folder`, into which a SavedModel may be written.

    Raises:
        OSError: a file stands there, or an older SavedModel that is not to be replaced.
    """
    return atomic.checked_target(folder, folder=True, overwrite=overwrite, parts=PARTS)


@contextlib.contextmanager
def replacing(folder: StrPath, *, overwrite: bool = True) -> Iterator[Path]:
    """Where to write a SavedModel that in the end becomes `folder`, or its parts there.

    Args:
        folder: where it goes. An older SavedModel is replaced, and other files there stay.
        overwrite: False refuses to replace an older one.

    Raises:
        OSError: it cannot be written, for which TensorFlow has exceptions of its own, or is not
            to be replaced; what was there is as it was.
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
