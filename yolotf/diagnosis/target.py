"""`Subject`, the network a file is compared with; `Case`, a file and its subject; `Place`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from yolotf.darknet import cfg
from yolotf.weights import catalog, layout
from yolotf.weights.file import ParsedFile
from yolotf.weights.header import WIDE


@dataclass(frozen=True)
class Subject:
    """The network a file is compared with.

    Attributes:
        source: the cfg's name in messages.
        segments: the segments that a matching file holds.
        network: the network.
        name: name of the equal stock network, or None.
    """

    source: str
    segments: tuple[layout.Segment, ...]
    network: cfg.Network
    name: str | None

    @classmethod
    def of(cls, network: cfg.Network) -> Subject:
        """Returns the subject for a network."""
        segments = tuple(layout.segments(network))
        name = network.name
        if name is None and (known := catalog.identify(catalog.layer_floats(segments))):
            name = known.name(network.classes)
        return cls(network.source, segments, network, name)

    @property
    def floats(self) -> int:
        """The number of floats in a matching file."""
        return self.segments[-1].end // layout.FLOAT_BYTES if self.segments else 0

    @property
    def title(self) -> str:
        """The name of the stock network; otherwise the source."""
        return self.name or self.source

    @property
    def architecture(self) -> catalog.Architecture | None:
        """The equal known network, whatever its number of classes and channels; or None."""
        return catalog.identify(catalog.layer_floats(self.segments))

    @property
    def has_lines(self) -> bool:
        """Whether messages can name cfg lines; the user has no cfg of a stock network."""
        return self.network.name is None

    def size_bytes(self, header_bytes: int = WIDE) -> int:
        """Returns the size of a matching file in bytes."""
        return header_bytes + layout.FLOAT_BYTES * self.floats

    def where(self, layer: int) -> str:
        """Returns the section and its cfg line, in words."""
        section = self.network.layers[layer]
        if self.has_lines:
            return self.network.where(section)
        return f"section {section.index} [{section.type}]"

    def line(self, layer: cfg.Layer, key: str | None = None) -> int | None:
        """Returns the cfg line of a section or of its option; None without a cfg."""
        if not self.has_lines:
            return None
        return layer.line_of(key) if key else layer.line

    def at(self, layer: cfg.Layer, key: str) -> str:
        """Returns where an option is set, `yolov4.cfg:968`; the section for a stock network."""
        if self.has_lines and layer.line_of(key):
            return f"{self.source}:{layer.line_of(key)}"
        # The layers of a Keras model have names but no cfg lines.
        return f"layer {layer.section.name}" if self.has_lines else f"section {layer.index}"

    def lines(self, places: Iterable[tuple[cfg.Layer, str]]) -> str:
        """Returns `at` of several options, separated by commas."""
        return ", ".join(self.at(layer, key) for layer, key in places)


class Place(NamedTuple):
    """A position in the network's own layout: where file and network diverge."""

    layer: int
    role: str
    start: int
    """Distance from the end of the header, in floats."""


@dataclass(frozen=True)
class Case:
    """A file that holds floats, and the network it is compared with.

    Attributes:
        file: the file, with a header of one of the two widths.
        subject: the network.
    """

    file: ParsedFile
    subject: Subject

    @property
    def expected_bytes(self) -> int:
        """The size of a matching file with this header, in bytes."""
        return self.file.size_of(self.subject.floats)
