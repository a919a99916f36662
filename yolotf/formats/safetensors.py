"""`.safetensors`: a network's arrays by name, with the cfg in the metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolotf.darknet.cfg import Network
from yolotf.darknet.roles import Role
from yolotf.errors import SizeMismatchError, optional_package
from yolotf.formats.request import ConversionInput
from yolotf.models import traversal
from yolotf.weights.file import ParsedFile
from yolotf.weights.layout import FLOAT_BYTES, Segment, segments

EXTRA = "safetensors"
"""The extra in `pip install yolotf[...]` that installs the library."""

_TORCH_BATCH_NORM = {
    Role.BETA: "bias",
    Role.GAMMA: "weight",
    Role.MOVING_MEAN: "running_mean",
    Role.MOVING_VARIANCE: "running_var",
}


def library() -> Any:
    """Imports and returns the optional library.

    Raises:
        MissingPackageError: it is not installed.
    """
    with optional_package(
        "safetensors", ".safetensors needs the package safetensors", f"yolotf[{EXTRA}]"
    ):
        import safetensors.numpy  # optional
    return safetensors.numpy


def write(conversion: ConversionInput, path: Path) -> None:
    """Writes the variables, or the arrays of `torch_arrays` if the conversion has them.

    Names are `conv_17/kernel` (HWIO), `conv_17_bn/moving_mean`, ...; of a backbone file only the
    layers it contains.
    """
    arrays = conversion.arrays if conversion.arrays is not None else _variables(conversion)
    header = conversion.loaded.header
    metadata = {
        "format": "tf" if conversion.arrays is None else "pt",
        "cfg": conversion.network.to_cfg(),
        "darknet_version": f"{header.major}.{header.minor}.{header.revision}",
        "seen": str(header.seen),
    }
    if conversion.options.class_names:
        metadata["names"] = "\n".join(conversion.options.class_names)
    # safetensors' save_file creates files that only their owner can read.
    path.write_bytes(library().save(arrays, metadata))


def _variables(conversion: ConversionInput) -> dict[str, Any]:
    arrays = {}
    missing = set(conversion.loaded.untouched)
    for layer in traversal.layers(conversion.model):
        if layer.name.removesuffix("_bn") in missing:
            continue
        for variable in traversal.own_weights(layer):
            # Keras 3: conv_17/kernel has the name kernel; tf_keras: conv_17/kernel:0.
            name = variable.name.split("/")[-1].removesuffix(":0")
            arrays[f"{layer.name}/{name}"] = variable.numpy()
    return arrays


def torch_arrays(network: Network, file: ParsedFile) -> dict[str, Any]:
    """Returns a file's arrays under PyTorch's names and in its axis order.

    Darknet stores kernels in PyTorch's order, OIHW and (out, in). Layers beyond the end of a
    backbone file are left out.

    Args:
        network: a network that matches the file.
        file: the weights.

    Returns:
        `conv_17.weight`, `conv_17.bias`; for batch normalization `bn_17.weight`, `bn_17.bias`,
        `bn_17.running_mean`, `bn_17.running_var`.

    Raises:
        SizeMismatchError: the file ends inside an array.
        OSError: the file cannot be read.
    """
    header = file.header
    floats = np.fromfile(file.path, np.float32, offset=header.size_bytes)
    arrays = {}
    for segment in segments(network, transposed=header.transposed):
        start = segment.offset // FLOAT_BYTES
        values = floats[start : start + segment.count]
        if not len(values):
            break
        if len(values) < segment.count:
            raise SizeMismatchError(
                f"{file.name}: the file became shorter while it was being read; convert it again",
                path=file.name,
                expected=header.size_bytes + segment.end,
                found=file.size_of(len(floats)),
            )
        arrays[_torch_name(network, segment)] = _outputs_first(
            values.reshape(segment.shape), segment
        )
    return arrays


def _torch_name(network: Network, segment: Segment) -> str:
    layer = network.layers[segment.layer]
    name = f"{layer.name}_{segment.part}" if segment.part else layer.name
    if segment.role in _TORCH_BATCH_NORM:
        norm = f"{name}_bn" if segment.part else f"bn_{segment.layer}"
        return f"{norm}.{_TORCH_BATCH_NORM[segment.role]}"
    return f"{name}.{'bias' if segment.role is Role.BIAS else 'weight'}"


def _outputs_first(values: npt.NDArray[Any], segment: Segment) -> npt.NDArray[Any]:
    """Returns the array with its output channels first."""
    return np.ascontiguousarray(np.moveaxis(values, -1, 0) if segment.transposed else values)
