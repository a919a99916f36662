"""`WeightsFile`: an open `.weights` file. Everything that reads weights opens it here.

`ParsedFile` is a `WeightsFile` together with its header, and so with the place of every float.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from yolotf import _core, errors
from yolotf.darknet.network import Network
from yolotf.files import sources
from yolotf.files.fetching import TIMEOUT, Limits
from yolotf.progress import Progress
from yolotf.weights import layout
from yolotf.weights.header import Header, float_counts

_BACKBONE = re.compile(r"\.conv\.(\d+)$")


@dataclass(frozen=True)
class WeightsFile:
    """An open `.weights` file.

    It is read lazily, so an instance can also name a file that cannot be read.

    Attributes:
        path: the local file that is read.
        name: the name that messages, reports and JSON show: the path or URL that the caller gave,
            or the kind of object.
    """

    path: str
    name: str

    @classmethod
    @contextlib.contextmanager
    def open(
        cls,
        weights: WeightsSource,
        progress: Progress | None = None,
        *,
        network: Network | None = None,
        timeout: float | None = TIMEOUT,
    ) -> Iterator[WeightsFile]:
        """Opens weights from any source for the duration of the `with` block.

        Args:
            weights: a path or URL; the bytes of a file; a binary file object; or a `WeightsFile`,
                which is not closed at the end of the block.
            progress: see `yolotf.progress`; called during a download.
            network: the network that the file should match. If a server does not report the size
                of the file, at most as many bytes as this network's file has are downloaded.
            timeout: seconds that a server may be silent; None for no limit.

        Raises:
            OSError: the source cannot be read, ended early, is too large, or (TimeoutError) its
                server was silent for too long.
            FileChangedError: the remote object was replaced during the download.
            MissingPackageError: the package that this kind of URL needs is not installed.
            TypeError: `weights` has another type.
        """
        if isinstance(weights, WeightsFile):
            yield weights
            return
        size = None if network is None else layout.size_bytes(network)
        limits = Limits.of_weights(size, timeout)
        with sources.opened(weights, progress, limits) as local:
            file = cls(local.path, local.name)
            try:
                yield file
            except OSError as error:  # the system and native code know only the local path
                if error.filename == file.path:
                    error.filename = file.name
                raise

    @classmethod
    def named(cls, weights: WeightsSource) -> WeightsFile:
        """Returns an instance that only has a name, without opening the source."""
        if isinstance(weights, WeightsFile):
            return weights
        name = sources.name_of(weights)
        return cls(name, name)

    @functools.cached_property
    def _start_and_size(self) -> tuple[bytes, int]:
        return _core.read_start(self.path)

    @property
    def start(self) -> bytes:
        """The first 20 bytes, or the whole file if it is shorter.

        Raises:
            OSError: it cannot be read, or is not a regular file.
        """
        return self._start_and_size[0]

    @property
    def size_bytes(self) -> int:
        """The size of the file.

        Raises:
            OSError: it cannot be read, or is not a regular file.
        """
        return self._start_and_size[1]

    def parsed(self, floats: int | None = None) -> ParsedFile:
        """Parses the header.

        Args:
            floats: how many floats should follow the header. If given, the header's width is the
                one that matches the size of the file; otherwise it follows from the version.

        Returns:
            The file with its header.

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
        return self.with_header(Header(*fields))

    def with_header(self, header: Header) -> ParsedFile:
        """Returns the file with a header that has been parsed already, or is only assumed."""
        return ParsedFile(self.path, self.name, header, self)

    def layouts(self) -> Iterator[ParsedFile]:
        """Yields the file with each header after which a whole number of floats fits.

        The header of the width that its version specifies comes first.

        Raises:
            OSError: it cannot be read, or is not a regular file.
        """
        by_version = Header.parse(self.start)
        widths = by_version.widths if by_version else ()
        for width, _ in float_counts(self.size_bytes, widths):
            header = Header.parse(self.start, width)
            if header is not None:
                yield self.with_header(header)

    @property
    def backbone_layers(self) -> int | None:
        """The layer count in the name of a backbone file: 137 for `yolov4.conv.137`, else None."""
        match = _BACKBONE.search(self.path)
        return int(match.group(1)) if match else None

    @property
    def is_named_file(self) -> bool:
        """Whether `name` is a local path, so that the file can be opened again by name."""
        return self.name == self.path


@dataclass(frozen=True)
class ParsedFile(WeightsFile):
    """A `.weights` file and its header.

    Which width a header has depends on how many floats should follow it, so a file may be parsed
    more than once.

    Attributes:
        header: its header.
    """

    header: Header
    _unparsed: WeightsFile = field(repr=False, compare=False)

    @functools.cached_property
    def _start_and_size(self) -> tuple[bytes, int]:
        return self._unparsed._start_and_size  # read once

    @property
    def floats(self) -> int:
        """The number of whole floats after the header."""
        return max(0, self.size_bytes - self.header.size_bytes) // layout.FLOAT_BYTES

    def size_of(self, floats: int) -> int:
        """Returns the size in bytes of a file with this header and `floats` floats."""
        return self.header.size_bytes + layout.FLOAT_BYTES * floats

    def with_width(self, header_bytes: int) -> ParsedFile:
        """Returns the file with its header parsed as one of `header_bytes` bytes."""
        return self.with_header(Header.parse(self.start, header_bytes) or self.header)


WeightsSource = sources.Weights | WeightsFile
"""What a `weights` argument accepts."""
