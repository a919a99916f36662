"""`.safetensors`: the variables under their Keras names, the cfg in the metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from yolotf.errors import MissingPackageError
from yolotf.formats.request import Source
from yolotf.models import traversal

EXTRA = "safetensors"
"""What `pip install yolotf[...]` calls the optional dependency."""


def library() -> Any:
    """The optional dependency.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        import safetensors.numpy  # optional
    except ImportError as error:
        raise MissingPackageError(
            f'.safetensors needs the package safetensors; pip install "yolotf[{EXTRA}]"'
        ) from error
    return safetensors.numpy


def write(source: Source, path: Path) -> None:
    """Writes `conv_17/kernel` (HWIO), `conv_17_bn/moving_mean`, ...

    Of a backbone's file only the layers that are in it.
    """
    arrays = {}
    missing = set(source.loaded.untouched)
    for layer in traversal.layers(source.model):
        if layer.name.removesuffix("_bn") in missing:
            continue
        for variable in traversal.own_weights(layer):
            # Keras 3: conv_17/kernel has the name kernel; tf_keras: conv_17/kernel:0.
            name = variable.name.split("/")[-1].removesuffix(":0")
            arrays[f"{layer.name}/{name}"] = variable.numpy()
    header = source.loaded.header
    metadata = {
        "format": "tf",
        "cfg": source.network.to_cfg(),
        "darknet_version": f"{header.major}.{header.minor}.{header.revision}",
        "seen": str(header.seen),
    }
    # Its save_file makes files that only their owner can read.
    path.write_bytes(library().save(arrays, metadata))
