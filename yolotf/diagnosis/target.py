"""What a file is compared with, and the case of one file against one network."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from yolotf.darknet import cfg
from yolotf.weights import catalog as _known
from yolotf.weights import layout
from yolotf.weights.file import WeightsFile
from yolotf.weights.header import WIDE, Header


@dataclass(frozen=True)
class Subject:
    """What a file is compared with.

    Attributes:
        source: the cfg's name in messages.
        segments: what the file would have to hold.
        network: the cfg behind it.
        name: the stock network it is, if it is one.
    """

    source: str
    segments: tuple[layout.Segment, ...]
    network: cfg.Network
    name: str | None

    @classmethod
    def of(cls, network: cfg.Network) -> Subject:
        """The subject for a network."""
        segments = tuple(layout.segments(network))
        name = network.name
        if name is None and (known := _known.identify(_known.layer_floats(segments))):
            name = known.name(network.classes)
        return cls(network.source, segments, network, name)

    @property
    def floats(self) -> int:
        """Floats of its file."""
        return self.segments[-1].end // layout.FLOAT_BYTES if self.segments else 0

    @property
    def title(self) -> str:
        """Its name, or else its source."""
        return self.name or self.source

    @property
    def architecture(self) -> _known.Architecture | None:
        """The known network that it is, with any class count and channels."""
        return _known.identify(_known.layer_floats(self.segments))

    @property
    def has_lines(self) -> bool:
        """Whether there is a text whose lines can be named; nobody has that of a stock network."""
        return self.network.name is None

    def size_bytes(self, header_bytes: int = WIDE) -> int:
        """Bytes of its file."""
        return header_bytes + layout.FLOAT_BYTES * self.floats

    def where(self, layer: int) -> str:
        """The section, with its line."""
        found = self.network.layers[layer]
        if self.has_lines:
            return self.network.where(found)
        return f"section {found.index} [{found.type}]"

    def line(self, layer: cfg.Layer, key: str | None = None) -> int | None:
        """The line of the section or of its option."""
        if not self.has_lines:
            return None
        return layer.line_of(key) if key else layer.line

    def at(self, layer: cfg.Layer, key: str) -> str:
        """`yolov4.cfg:968`: where the option is written, or the section for a stock network."""
        if self.has_lines and layer.line_of(key):
            return f"{self.source}:{layer.line_of(key)}"
        # A model's layers have names and no lines.
        return f"layer {layer.section.name}" if self.has_lines else f"section {layer.index}"

    def lines(self, places: Iterable[tuple[cfg.Layer, str]]) -> str:
        """`at` of several options."""
        return ", ".join(self.at(layer, key) for layer, key in places)


@dataclass(frozen=True)
class Case:
    """A file that holds floats, and the network it is compared with.

    Attributes:
        file: the file.
        header: as it is read, one of two widths.
        subject: the network.
    """

    file: WeightsFile
    header: Header
    subject: Subject

    @property
    def floats(self) -> int:
        """Whole floats after the header."""
        return max(0, self.file.size_bytes - self.header.size_bytes) // layout.FLOAT_BYTES

    @property
    def expected_bytes(self) -> int:
        """The size that the network's file has with this header."""
        return self.subject.size_bytes(self.header.size_bytes)
