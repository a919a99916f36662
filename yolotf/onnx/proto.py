"""The ONNX messages that a network needs, in protobuf's wire format.

Hand-written to start servers quickly: `import onnx` takes longer than all of this, and a protobuf
library would copy every kernel. Field numbers are those of onnx.proto3 (IR version 7); the tests
read everything back with the `onnx` package.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Dim = int | str
"""A size, or the name of a size known only at run time."""

_TYPES = {"float32": 1, "uint8": 2, "int32": 6, "int64": 7, "bool": 9}
"""TensorProto.DataType."""
_FLOAT, _INT, _STRING, _FLOATS, _INTS = 1, 2, 3, 6, 7
"""AttributeProto.AttributeType."""
_EXTERNAL = 1
"""TensorProto.DataLocation."""


def varint(value: int) -> bytes:
    """Encodes an integer as a varint."""
    value &= 0xFFFFFFFFFFFFFFFF
    if value < 0x80:
        return bytes((value,))
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*parts, value))


def number(field: int, value: int) -> bytes:
    """Encodes an integer field."""
    return varint(field << 3) + varint(value)


def start(field: int, size: int) -> bytes:
    """Encodes the tag and length that precede `size` bytes of a length-delimited field."""
    return varint(field << 3 | 2) + varint(size)


def message(field: int, content: bytes) -> bytes:
    """Encodes a bytes or message field."""
    return start(field, len(content)) + content


def text(field: int, value: str) -> bytes:
    """Encodes a string field."""
    return message(field, value.encode())


def _packed(field: int, values: Iterable[int]) -> bytes:
    return message(field, b"".join(map(varint, values)))


def attribute(name: str, value: Any) -> bytes:
    """Encodes an AttributeProto: an int, a float, a str, or a list of ints or floats."""
    named = text(1, name)
    match value:
        case bool() | int():
            return named + number(3, int(value)) + number(20, _INT)
        case float():
            return named + varint(2 << 3 | 5) + struct.pack("<f", value) + number(20, _FLOAT)
        case str():
            return named + text(4, value) + number(20, _STRING)
        case [float(), *_]:
            packed = struct.pack(f"<{len(value)}f", *value)
            return named + message(7, packed) + number(20, _FLOATS)
        case _:
            return named + _packed(8, value) + number(20, _INTS)


def node(
    kind: str,
    name: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    attributes: Mapping[str, Any],
) -> bytes:
    """Encodes a NodeProto."""
    parts = [text(1, value) for value in inputs]
    parts += [text(2, value) for value in outputs]
    parts += [text(3, name), text(4, kind)]
    parts += [message(5, attribute(key, value)) for key, value in attributes.items()]
    return b"".join(parts)


def value_info(name: str, dtype: str, shape: Sequence[Dim]) -> bytes:
    """Encodes a ValueInfoProto of a tensor."""
    dims = b"".join(message(1, _dim(extent)) for extent in shape)
    tensor_type = number(1, _TYPES[dtype]) + message(2, dims)
    return text(1, name) + message(2, message(1, tensor_type))


def _dim(extent: Dim) -> bytes:
    return text(2, extent) if isinstance(extent, str) else number(1, extent)


def tensor(name: str, array: npt.NDArray[Any]) -> bytes:
    """Encodes a TensorProto with its values."""
    content = np.ascontiguousarray(array).tobytes()
    return _tensor_start(name, array.dtype.name, array.shape) + message(9, content)


def float_tensor_start(name: str, shape: Sequence[int]) -> bytes:
    """Encodes a float32 TensorProto up to its values, which have to follow."""
    size = 4 * int(np.prod(shape, dtype=np.int64))
    return _tensor_start(name, "float32", shape) + start(9, size)


def external_float_tensor(name: str, shape: Sequence[int], file: str, offset: int) -> bytes:
    """Encodes a float32 TensorProto whose values are in another file of the same folder."""
    size = 4 * int(np.prod(shape, dtype=np.int64))
    entries = {"location": file, "offset": str(offset), "length": str(size)}
    encoded = b"".join(message(13, entry(*item)) for item in entries.items())
    return _tensor_start(name, "float32", shape) + encoded + number(14, _EXTERNAL)


def _tensor_start(name: str, dtype: str, shape: Sequence[int]) -> bytes:
    return _packed(1, shape) + number(2, _TYPES[dtype]) + text(8, name)


def entry(key: str, value: str) -> bytes:
    """Encodes a StringStringEntryProto."""
    return text(1, key) + text(2, value)
