"""A plain writer and loader of `.weights` files to compare with; shares no line with yolotf.

It parses a cfg itself, computes shapes as far as the order of the file needs them, and sets the
variables of a Keras model by layer name: reshape, transpose, assign. It does not check anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from support import weights_files

NORM_ROLES = ("beta", "gamma", "moving_mean", "moving_variance")

Section = tuple[str, dict[str, str]]


class Stored(NamedTuple):
    """An array of the file: section number, section type, role and shape in the file."""

    index: int
    kind: str
    role: str
    shape: tuple[int, ...]


def read(text: str) -> list[Section]:
    """Returns the sections of a cfg; if a key occurs twice, the first counts."""
    sections: list[Section] = []
    for line in text.splitlines():
        line = "".join(line.split())
        if line.startswith("["):
            sections.append((line[1 : line.index("]")], {}))
        elif "=" in line and line[0] not in "#;":
            key, value = line.split("=", 1)
            sections[-1][1].setdefault(key, value)
    return sections


def _numbers(value: str) -> list[int]:
    return [int(part) for part in re.findall(r"[+-]?\d+", value.split("#")[0])]


def _windows(room: int, stride: int) -> int:
    return int(room / stride) + 1  # C's division truncates toward zero


def stored(text: str) -> Iterator[Stored]:
    """Returns the arrays in the file of a cfg, in file order."""
    (_, net), *sections = read(text)
    size = int(net["height"]), int(net["width"]), int(net["channels"])
    shapes: list[tuple[int, int, int]] = []
    for index, (kind, options) in enumerate(sections):

        def option(key: str, default: int, options: dict[str, str] = options) -> int:
            return _numbers(options[key])[0] if key in options else default

        def others(
            key: str, options: dict[str, str] = options, index: int = index
        ) -> list[tuple[int, int, int]]:
            return [
                shapes[reference if reference >= 0 else index + reference]
                for reference in _numbers(options[key])
            ]

        height, width, channels = shapes[-1] if shapes else size
        filters, side, stride = option("filters", 1), option("size", 1), option("stride", 1)
        normalize = option("batch_normalize", 0)
        bias, scales = (
            ("beta" if normalize else "bias"),
            ("gamma", "moving_mean", "moving_variance"),
        )
        match kind:
            case "convolutional":
                padding = side // 2 if option("pad", 0) else option("padding", 0)
                if "share_index" not in options:
                    yield Stored(index, kind, bias, (filters,))
                    for role in scales if normalize else ():
                        yield Stored(index, kind, role, (filters,))
                    group = channels // option("groups", 1)
                    yield Stored(index, kind, "kernel", (filters, group, side, side))
                height, width = (
                    _windows(extent + 2 * padding - side, option(key, stride))
                    for extent, key in ((height, "stride_y"), (width, "stride_x"))
                )
                channels = filters
            case "connected":
                output = option("output", 1)
                yield Stored(index, kind, bias, (output,))
                yield Stored(index, kind, "kernel", (output, height * width * channels))
                for role in scales if normalize else ():
                    yield Stored(index, kind, role, (output,))
                height, width, channels = 1, 1, output
            case "local":
                lost = 1 if option("pad", 0) else side
                height, width = _windows(height - lost, stride), _windows(width - lost, stride)
                yield Stored(index, kind, "bias", (filters, height, width))
                yield Stored(index, kind, "kernel", (height * width, filters, channels, side, side))
                channels = filters
            case "batchnorm":
                for role in ("beta", *scales):
                    yield Stored(index, kind, role, (channels,))
            case "shortcut":
                weights = options.get("weights_type", "none")
                if weights != "none":
                    columns = channels if weights == "per_channel" else 1
                    yield Stored(index, kind, "shortcut", (1 + len(others("from")), columns))
            case "implicit":
                atoms = option("atoms", 1)
                yield Stored(index, kind, "implicit", (filters, atoms))
                height, width, channels = atoms, 1, filters
            case "maxpool" | "local_avgpool":
                side = option("size", stride)
                lost = side - option("padding", side - 1)
                if option("maxpool_depth", 0):
                    channels = option("out_channels", 1)
                else:
                    height, width = _windows(height - lost, stride), _windows(width - lost, stride)
            case "avgpool":
                height = width = 1
            case "route":
                joined = others("layers")
                height, width, _ = joined[0]
                channels = sum(shape[2] for shape in joined) // option("groups", 1)
            case "scale_channels" | "sam":
                height, width, channels = others("from")[0]
            case "upsample":
                stride = option("stride", 2)
                height, width = (
                    (height * stride, width * stride)
                    if stride > 0
                    else (height // -stride, width // -stride)
                )
            case "reorg" | "reorg3d":
                if option("reverse", 0):
                    height, width, channels = height * stride, width * stride, channels // stride**2
                else:
                    height, width, channels = (
                        height // stride,
                        width // stride,
                        channels * stride**2,
                    )
            case "crop":
                height, width = option("crop_height", 1), option("crop_width", 1)
        shapes.append((height, width, channels))


def random_file(text: str, seed: int = 0, gain: float = 0.75) -> bytes:
    """Writes a `.weights` file of plausible values for a cfg.

    Variances are between 100 and 400, and the kernels before them are larger by as much. Then
    Darknet's epsilon of 1e-5 and OpenCV's of 1e-6 give the same float32 results; with variances
    near 1, a hundred layers would show the difference. `gain` scales kernels: deep networks need a
    smaller gain, so that values do not saturate the last logistic.
    """
    random = np.random.default_rng(seed)
    # A prime length, so that no two rows or channels of a kernel are equal.
    pool = random.standard_normal(1_000_003, dtype=np.float32)
    values_in_order = []
    normalized = {array.index for array in stored(text) if array.role == "moving_variance"}
    for array in stored(text):
        spread = 250.0**0.5 if array.index in normalized else 1.0
        normal = np.resize(np.roll(pool, -int(random.integers(len(pool)))), array.shape)
        if normal.nbytes >= 1 << 16:  # from one pool, two such blocks could be equal
            normal = random.standard_normal(array.shape, dtype=np.float32)
        match array.role:
            case "gamma":
                values = 1 + 0.2 * normal
            case "moving_variance":
                values = random.uniform(100, 400, array.shape)
            case "moving_mean":
                values = 0.2 * spread * normal
            case "kernel":
                fan_in = (
                    np.prod(array.shape[1:]) if array.kind != "local" else np.prod(array.shape[2:])
                )
                values = np.float32(gain * spread * (2 / fan_in) ** 0.5) * normal
            case "shortcut":
                values = 0.6 + 0.3 * normal
            case _:
                values = 0.2 * normal
        values_in_order.append(values)
    return weights_files.content(*values_in_order)


def arrays(text: str, content: bytes) -> dict[Stored, Any]:
    """Returns every array of a file, in the file's shape."""
    major, minor = np.frombuffer(content[:8], np.int32)
    wide = major * 10 + minor >= 2 and major < 1000 and minor < 1000
    floats = np.frombuffer(content[20 if wide else 16 :], np.float32)
    stored_arrays, position = {}, 0
    for array in stored(text):
        count = int(np.prod(array.shape))
        stored_arrays[array] = floats[position : position + count].reshape(array.shape)
        position += count
    return stored_arrays


def load(model: Any, text: str, content: bytes) -> int:
    """Sets the variables of `model`, built from the cfg `text`; returns the floats of the file.

    Sections for which the model has no layer are skipped.
    """
    layers = {layer.name: layer for layer in model.layers}
    total = 0
    for array, values in arrays(text, content).items():
        total += values.size
        name = f"{'conv' if array.kind == 'convolutional' else array.kind}_{array.index}"
        if array.role in NORM_ROLES and array.kind != "batchnorm":
            name += "_bn"
        if name in layers:
            _assign(layers[name], array, values)
    return total


def _assign(layer: Any, array: Stored, values: Any) -> None:
    attribute = array.role
    if array.role == "kernel":
        match array.kind:
            case "connected":
                values = values.T
            case "local":
                values = values.transpose(0, 3, 4, 2, 1)
            case _ if "Depthwise" in type(layer).__name__:
                filters, _, height, width = array.shape
                multiplier = layer.depth_multiplier
                values = values.reshape(filters // multiplier, multiplier, height, width)
                values = values.transpose(2, 3, 0, 1)
                if hasattr(layer, "depthwise_kernel"):
                    attribute = "depthwise_kernel"
            case _ if getattr(layer, "flipped", False):
                filters, channels, height, width = array.shape
                values = values.reshape(channels, height, width, filters)
            case _:
                values = values.transpose(2, 3, 1, 0)
    elif array.role == "bias" and array.kind == "local":
        values = values.transpose(1, 2, 0)
    getattr(layer, attribute).assign(values)
