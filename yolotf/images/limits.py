"""The default limit of an image's size."""

MAX_PIXELS = 1 << 27
"""Most pixels of an image, unless another limit is given: 134 million.

Even photos of a camera with 108 megapixels are smaller. Without a limit, a malicious file of half a
megabyte could fill the memory: each pixel takes three bytes, twice.
"""
