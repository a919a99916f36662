"""Encodes the few protobuf messages that are written without the protobuf library."""

from __future__ import annotations


def message(number: int, content: bytes) -> bytes:
    """Encodes a length-delimited field: a string, bytes or a nested message."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def integer(number: int, value: int) -> bytes:
    """Encodes a varint field: an integer, bool or enum."""
    return _varint(number << 3) + _varint(value & 0xFFFFFFFFFFFFFFFF)


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
