"""Records the network of each file that this process writes.

A `.weights` file does not name its network, and several networks may store the same number of
floats. The network of a file that this process wrote is known as long as the file is unchanged.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from yolotf.darknet.cfg import Network
from yolotf.files.paths import StrPath
from yolotf.weights.head_decoding import decoding_of

_MOST = 256
"""The number of files that are remembered."""
_written: dict[_Identity, Any] = {}
"""The decoding of each file's network."""


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


def remember(path: StrPath, network: Network | None) -> None:
    """Records that the file at `path` was just written, as a file of `network`."""
    identity = _identity(path)
    if identity is None or network is None:
        return
    _written[identity] = decoding_of(network)
    while len(_written) > _MOST:
        del _written[next(iter(_written))]


def was_written_for(weights: object, network: Network) -> bool:
    """Returns whether this process wrote `weights` for a network that decodes like `network`."""
    identity = _identity(weights)
    return identity is not None and _written.get(identity) == decoding_of(network)
