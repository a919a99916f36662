"""How large an image may be."""

MAX_PIXELS = 1 << 27
"""Pixels of a file, unless another number is asked for: 134 million, and a camera of 108 has fewer.

Half a megabyte can hold more than that many, and in memory each takes three bytes, twice.
"""
