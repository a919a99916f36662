"""`WeightsFile`: an opened `.weights` file, and the one way to open it."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from yolotf import _core, errors
from yolotf.darknet.network import Network
from yolotf.files import sources
from yolotf.files.fetching import TIMEOUT, Limits
from yolotf.weights import segments
from yolotf.weights.header import Header, float_counts

_BACKBONE = re.compile(r"\.conv\.(\d+)$")


@dataclass(frozen=True)
class WeightsFile:
    """A `.weights` file that can be read for as long as it is open.

    Nothing is read before it is asked for, so that one can also be made for what cannot be read.

    Attributes:
        path: where it is read.
        name: what messages, reports and JSON call it: the path, URL or kind of object that the
            caller gave.
    """

    path: str
    name: str

    @classmethod
    @contextlib.contextmanager
    def open(
        cls,
        weights: WeightsSource,
        progress: sources.Progress | None = None,
        *,
        network: Network | None = None,
        timeout: float | None = TIMEOUT,
    ) -> Iterator[WeightsFile]:
        """Opens weights from anywhere for as long as the block lasts.

        Args:
            weights: a path or URL; the bytes of a file; a file opened for reading bytes; or what
                is open already and stays so.
            progress: called with (bytes done, bytes in all) of what comes over a network.
            network: whose file it should be. Of a URL whose server does not say how large the file
                is, no more is read than that has.
            timeout: seconds that a server may be silent; None: any.

        Raises:
            OSError: it cannot be read, ended early, is too large, or (TimeoutError) its server has
                been silent for too long.
            FileChangedError: the object was replaced while it came.
            MissingPackageError: a URL, and the package for it is not installed.
            TypeError: it is none of these.
        """
        if isinstance(weights, WeightsFile):
            yield weights
            return
        limits = Limits(None if network is None else segments.size_bytes(network), timeout)
        with sources.opened(weights, progress, limits) as local:
            file = cls(local.path, local.name)
            try:
                yield file
            except OSError as error:  # of the system or native code, which know the path alone
                if error.filename == file.path:
                    error.filename = file.name
                raise

    @classmethod
    def named(cls, weights: WeightsSource) -> WeightsFile:
        """By its name alone: for paths, and for what could not be opened."""
        if isinstance(weights, WeightsFile):
            return weights
        name = sources.name_of(weights)
        return cls(name, name)

    @functools.cached_property
    def _beginning(self) -> tuple[bytes, int]:
        return _core.read_start(self.path)

    @property
    def start(self) -> bytes:
        """The first 20 bytes; of a shorter file, all.

        Raises:
            OSError: it cannot be read, or is not a regular file.
        """
        return self._beginning[0]

    @property
    def size_bytes(self) -> int:
        """Its size.

        Raises:
            OSError: it cannot be read, or is not a regular file.
        """
        return self._beginning[1]

    def header(self, floats: int | None = None) -> Header:
        """The header, its width chosen by the file's size where the number of floats is known.

        Raises:
            HeaderError: the file is shorter than a header.
            OSError: it cannot be read, or is not a regular file.
        """
        try:
            fields = _core.parse_header(
                self.start, self.size_bytes, -1 if floats is None else floats
            )
        except _core.NativeError as error:
            raise errors.HeaderError(
                f"{self.name}: {error}; a .weights file starts with 16 or 20 bytes of header",
                path=self.name,
                expected=error.expected,
                found=error.found,
            ) from None
        return Header(*fields)

    def layouts(self) -> Iterator[tuple[Header, int]]:
        """(header, floats) for each width of the header that whole floats follow.

        The width that the version asks for comes first.

        Raises:
            OSError: it cannot be read, or is not a regular file.
        """
        usual = Header.parse(self.start)
        for width, floats in float_counts(self.size_bytes, usual.widths if usual else ()):
            header = Header.parse(self.start, width)
            if header is not None:
                yield header, floats

    @property
    def backbone_layers(self) -> int | None:
        """137 of `yolov4.conv.137`, a file that says of itself that it is cut; None of others."""
        named = _BACKBONE.search(self.path)
        return int(named.group(1)) if named else None

    @property
    def is_named_file(self) -> bool:
        """Whether its name is the path of a file, which can be opened again."""
        return self.name == self.path


WeightsSource = sources.Weights | WeightsFile
"""What every function that reads weights takes."""
