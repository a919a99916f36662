"""Translates TensorFlow errors into yolotf errors. TensorFlow is not imported."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from yolotf.errors import OutOfMemoryError, TensorFlowError, YolotfError
from yolotf.files.paths import StrPath
from yolotf.text import plural, size_text

if TYPE_CHECKING:
    from yolotf.darknet import cfg

_NO_MEMORY = "RESOURCE_EXHAUSTED"
_TENSOR = re.compile(r"tensor with shape\s*\[([\d, ]*)\] and type (\w+)")
_TYPE_BYTES = {"float": 4, "double": 8, "half": 2, "bfloat16": 2, "int32": 4, "int64": 8}
"""Sizes of TensorFlow's types by name; other types count as one byte."""

# Source locations, function names and devices in TensorFlow's messages.
_NOISE = re.compile(
    r"\[Op:\w+\].*|\{\{(function_)?node [^}]*\}\}|\{function_node [^}]*\}|"
    r" on /job:\S+( by allocator \S+)?|\[\[\]\]"
)


def refusal(
    message: str, code: str, network: cfg.Network | None = None, batch: int | None = None
) -> YolotfError:
    """Returns the error for a TensorFlow error.

    Args:
        message: TensorFlow's message.
        code: its status code, such as `INVALID_ARGUMENT`.
        network: the network that was computed.
        batch: number of images.
    """
    facts = {**_facts(network, batch), "tensorflow_code": code, "said": message}
    subject = _subject(network, batch)
    start = f"{network.source}: " if network else ""
    if code == _NO_MEMORY:
        allocation, needed = "a result", None
        if tensor := _TENSOR.search(message):
            shape = [int(extent) for extent in tensor[1].split(",") if extent.strip()]
            needed = _TYPE_BYTES.get(tensor[2], 1)
            for extent in shape:
                needed *= extent
            allocation = f"a tensor of {shape}, {size_text(needed)},"
        text = (
            f"{start}TensorFlow finds no memory for {allocation}{subject}; {smaller_advice(batch)}"
        )
        return OutOfMemoryError(text, **facts, needed=needed, allowed=None)
    first_line = message.strip().partition("\n")[0]
    reason = " ".join(_NOISE.sub("", first_line).split()).rstrip(" .")
    text = f"{start}TensorFlow refuses {'the graph' if batch is None else 'a run'}{subject}"
    return TensorFlowError(f"{text}: {reason or code}", **facts)


def out_of_memory(network: cfg.Network, batch: int | None) -> OutOfMemoryError:
    """Returns the error for a failed allocation of unknown size."""
    return OutOfMemoryError(
        f"{network.source}: there is no memory left{_subject(network, batch)}; "
        f"{smaller_advice(batch)}",
        **_facts(network, batch),
        needed=None,
        allowed=None,
    )


@contextmanager
def translate_errors(network: cfg.Network, batch: int | None = None) -> Iterator[None]:
    """Translates errors of the runtime, TensorFlow's Python and the allocator in the block.

    Args:
        network: the network being prepared or run.
        batch: number of images of the run; None while preparing.

    Raises:
        TensorFlowError: TensorFlow failed.
        OutOfMemoryError: there is not enough memory.
    """
    try:
        yield
    except (OutOfMemoryError, TensorFlowError) as error:
        if error.source is not None or "said" not in error.facts:  # already translated
            raise
        raise refusal(error.said, error.tensorflow_code, network, batch) from None
    except MemoryError:
        raise out_of_memory(network, batch) from None
    except Exception as error:
        translated = of_tensorflow(error, network, batch)
        if translated is None:
            raise
        raise translated from None


def of_tensorflow(
    error: BaseException, network: cfg.Network | None = None, batch: int | None = None
) -> YolotfError | None:
    """Returns the error for one of `tf.errors`; None for any other exception."""
    tensorflow = sys.modules.get("tensorflow")
    kind = getattr(getattr(tensorflow, "errors", None), "OpError", None)
    if kind is None or not isinstance(error, kind):
        return None
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(error).__name__.removesuffix("Error")).upper()
    return refusal(str(getattr(error, "message", error)), name, network, batch)


def system_error(error: BaseException, path: StrPath) -> OSError | None:
    """Returns the OSError that a TensorFlow or HDF5 message contains; None if there is none.

    Args:
        error: the exception.
        path: the file that was read or written.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return None
    tensorflow = sys.modules.get("tensorflow")
    kind = getattr(getattr(tensorflow, "errors", None), "OpError", OSError)
    if not isinstance(error, OSError | RuntimeError | kind):
        return None
    text = str(error)
    number = next((code for code in sorted(errno.errorcode) if os.strerror(code) in text), None)
    return None if number is None else OSError(number, os.strerror(number), os.fspath(path))


def _facts(network: cfg.Network | None, batch: int | None) -> dict[str, object]:
    size = None if network is None else tuple(network.input_shape[:2])
    source = None if network is None else network.source
    return {"source": source, "input_size": size, "batch": batch}


def _subject(network: cfg.Network | None, batch: int | None) -> str:
    if network is None:
        return ""
    size = input_text(network)
    return f" for {size}" if batch is None else f" for {plural(batch, 'image')} in {size}"


def input_text(network: cfg.Network) -> str:
    """`an input of 4,000x3,000`, width first as in a cfg."""
    height, width, _ = network.input_shape
    return f"an input of {width:,}x{height:,}"


def smaller_advice(batch: int | None) -> str:
    """Returns what to do where memory ends; `Detector` takes its size from the network."""
    size = "give the network a smaller size=, or --size"
    is_batch = batch is not None and batch > 1
    return (
        f"{size}; or run fewer images at once, batch_size=, or --batch-size" if is_batch else size
    )
