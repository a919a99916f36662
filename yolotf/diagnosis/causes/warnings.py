"""Warnings: problems that do not prevent loading."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from yolotf.diagnosis.causes.finding import MESSAGE_ONLY, Finding
from yolotf.weights.header import width_warning
from yolotf.weights.same_size import same_size_warning


@dataclass(frozen=True, kw_only=True, eq=False)
class HeaderWidth(Finding):
    """The width of the header does not match its version.

    Attributes:
        file: size of the header in bytes, according to the size of the file.
        expected: size of the header in bytes, according to its version.
        version: the version, as in `0.2`.
    """

    kind: ClassVar[str] = "header_width"

    file: int
    expected: int
    version: str = field(metadata=MESSAGE_ONLY)

    def _sentence(self) -> str:
        return width_warning(self.version, self.expected, self.file)


@dataclass(frozen=True, kw_only=True, eq=False)
class Unverified(Finding):
    """Only the size could be checked; `why` gives the reason."""

    kind: ClassVar[str] = "unverified"

    why: str = field(metadata=MESSAGE_ONLY)

    def _sentence(self) -> str:
        return f"{self.why}, so only the size could be checked"


@dataclass(frozen=True, kw_only=True, eq=False)
class _Quoted(Finding):
    """A sentence about something other than the file, which it names.

    Attributes:
        sentence: the whole message.
    """

    sentence: str = field(metadata=MESSAGE_ONLY)

    @property
    def message(self) -> str:
        """The sentence, without the file's name."""
        return self.sentence

    def _sentence(self) -> str:
        return self.sentence


@dataclass(frozen=True, kw_only=True, eq=False)
class CfgLine(_Quoted):
    """A problem in the cfg, such as a line that Darknet ignores, or implausible anchors."""

    kind: ClassVar[str] = "cfg"


@dataclass(frozen=True, kw_only=True, eq=False)
class SameSizeNetworks(Finding):
    """Other networks store the same floats but decode differently.

    Attributes:
        networks: names of the other networks.
        differing: the cfg keys that differ.
        title_of: name of the network the file was compared with.
        differences: what differs, for each of `networks`.
    """

    kind: ClassVar[str] = "same_size_networks"

    networks: tuple[str, ...]
    differing: tuple[str, ...]
    title_of: str = field(metadata=MESSAGE_ONLY)
    differences: tuple[str, ...] = field(metadata=MESSAGE_ONLY)

    def _sentence(self) -> str:
        return same_size_warning(self.title_of, zip(self.networks, self.differences, strict=True))


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelDifference(_Quoted):
    """A Keras model computes something else than its network.

    Attributes:
        kind: epsilon, leaky_slope, activation, padding, concat_order, upsampling, ...
        layers: names of the layers that differ.
    """

    kind: str = field(metadata=MESSAGE_ONLY)  # type: ignore[misc]
    layers: tuple[str, ...]
