"""Which network the files that this process wrote are of.

A `.weights` file says nothing about its network, and several networks may store as many floats. Of
a file that was written here, and not touched since, there is no doubt.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from yolotf.darknet.cfg import Network
from yolotf.weights.catalog import decoding_of

_MOST = 256
_written: dict[_Identity, Any] = {}


class _Identity(NamedTuple):
    device: int
    inode: int
    size: int
    modified_ns: int


def _identity(path: object) -> _Identity | None:
    if not isinstance(path, str | os.PathLike):  # bytes, an open file
        return None
    try:
        stat = Path(path).stat()
    except (OSError, ValueError):  # a URL
        return None
    return _Identity(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)


def remember(path: str | os.PathLike[str], network: Network | None) -> None:
    """Notes that the file was just written as one of `network`."""
    identity = _identity(path)
    if identity is None or network is None:
        return
    _written[identity] = decoding_of(network)
    while len(_written) > _MOST:
        del _written[next(iter(_written))]


def is_of(weights: object, network: Network) -> bool:
    """Whether this process wrote `weights` as a file of a network that decodes like `network`."""
    identity = _identity(weights)
    return identity is not None and _written.get(identity) == decoding_of(network)
