"""Protobuf's wire format, for the few messages that are written without its library."""

from __future__ import annotations


def message(number: int, content: bytes) -> bytes:
    """A field of bytes: a string, or a message within one."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def integer(number: int, value: int) -> bytes:
    """A field of a whole number, a bool or an enum."""
    return _varint(number << 3) + _varint(value & 0xFFFFFFFFFFFFFFFF)


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
