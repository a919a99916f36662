"""Causes for a file that belongs to another network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from yolotf.diagnosis.causes.finding import MESSAGE_ONLY, OPTIONAL, Finding
from yolotf.text import plural

TAKES_CLASSES = "pass classes={classes}, or --classes {classes}"
"""Advice of functions and commands with an argument for the number of classes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassCount(Finding):
    """The file was trained with another number of classes.

    Attributes:
        file: the file's number of classes.
        model: the network's number of classes.
        source: the network's name.
        remedy: what else to change; may be empty.
        argument: what to pass, or None where the number of classes is not an argument: for a
            function that takes `classes`, and a command. See `Diagnosis.with_argument`.
        training: how to train a model with its own number of classes from this file; may be empty.
        other_networks: other networks of the file's size, in words; may be empty.
    """

    kind: ClassVar[str] = "class_count"
    _old_fields: ClassVar[Mapping[str, str]] = {"otherwise": "other_networks"}

    file: int
    model: int | None
    source: str = field(metadata=MESSAGE_ONLY)
    remedy: str = field(default="", metadata=MESSAGE_ONLY)
    argument: str | None = field(default=TAKES_CLASSES, metadata=MESSAGE_ONLY)
    training: str = field(default="", metadata=MESSAGE_ONLY)
    other_networks: str = field(default="", metadata=MESSAGE_ONLY)

    def _sentence(self) -> str:
        text = f"trained with {plural(self.file, 'class', 'classes')}, {self.source} has "
        text += "none" if self.model is None else str(self.model)
        return f"{text}; {self.other_networks}" if self.other_networks else text

    @property
    def fix(self) -> str:
        """The argument to pass, or the cfg lines to change, or the call to train with."""
        argument = (self.argument or "").replace("{classes}", str(self.file))
        return "; or ".join(filter(None, (argument, self.remedy, self.training)))


@dataclass(frozen=True, kw_only=True, eq=False)
class Channels(Finding):
    """The file was trained on images with another number of channels.

    Attributes:
        file: the file's number of channels.
        model: the network's number of channels.
        source: the network's name.
        at: the cfg line of `channels=`; empty if there is none.
    """

    kind: ClassVar[str] = "channels"

    file: int
    model: int
    source: str = field(metadata=MESSAGE_ONLY)
    at: str = field(default="", metadata=MESSAGE_ONLY)

    def _sentence(self) -> str:
        return (
            f"trained on images of {plural(self.file, 'channel')}, {self.source} takes {self.model}"
        )

    @property
    def fix(self) -> str:
        """The cfg line to change."""
        return f"set channels={self.file} in [net]" + (f", {self.at}" if self.at else "")


@dataclass(frozen=True, kw_only=True, eq=False)
class OtherArchitecture(Finding):
    """The file belongs to another known network.

    Attributes:
        file: name of the file's network.
        file_classes: its number of classes.
        model: name of the network it was compared with.
    """

    kind: ClassVar[str] = "architecture"

    file: str
    file_classes: int | None
    model: str

    def _sentence(self) -> str:
        classes = self.file_classes
        stated = f" with {plural(classes, 'class', 'classes')}" if classes else ""
        return f"has the size of {self.file}{stated}, not of {self.model}"

    @property
    def fix(self) -> str:
        """The cfg to use."""
        option = f" and classes={self.file_classes}" if self.file_classes else ""
        return f"use the cfg of {self.file}{option}"


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadFilters(Finding):
    """Some heads have another size in the file: not updated in the cfg, or with other masks.

    Attributes:
        file: filters of the convolution before each head, in the file.
        model: the same in the network.
        heads: indices of the heads that differ, if only their number of classes differs; None if
            the anchors are distributed differently among the heads.
        classes: number of classes of these heads in the file.
        source: the network's name.
        lines: cfg lines of the filters of these heads.
        class_lines: cfg lines of their classes.
    """

    kind: ClassVar[str] = "head_filters"

    file: list[int]
    model: list[int]
    heads: list[int] | None = field(default=None, metadata=OPTIONAL)
    classes: int = field(metadata=MESSAGE_ONLY)
    source: str = field(metadata=MESSAGE_ONLY)
    lines: list[str] = field(metadata=MESSAGE_ONLY)
    class_lines: list[str] = field(default_factory=list, metadata=MESSAGE_ONLY)

    def _sentence(self) -> str:
        if self.heads is None:
            return (
                f"its heads have {self.file} filters, those of {self.source} have {self.model}: "
                f"{plural(self.classes, 'class', 'classes')}, and the anchors are distributed "
                "differently among the heads"
            )
        return "; ".join(self._heads_alike())

    def _heads_alike(self) -> Iterator[str]:
        """Yields a clause for each group of heads with the same filters in cfg and file."""
        alike: dict[tuple[int, int], list[int]] = {}
        for place in self.heads or ():
            alike.setdefault((self.model[place], self.file[place]), []).append(place)
        lines = dict(zip(self.heads or (), self.lines, strict=False))
        for (model, file), places in alike.items():
            several = len(places) > 1
            numbers = _joined_with_and([str(place) for place in places])
            yield (
                f"head{'s' if several else ''} {numbers} {'have' if several else 'has'} {model} "
                f"filters ({_numbered([lines[place] for place in places])}), the file has {file}, "
                f"as for {plural(self.classes, 'class', 'classes')}"
            )

    @property
    def fix(self) -> str:
        """The cfg lines to change."""
        if self.heads is None:
            return f"set filters and mask as they were in training, in {', '.join(self.lines)}"
        filters = dict.fromkeys(self.file[place] for place in self.heads)
        remedy = f"set filters={' or '.join(map(str, filters))} in {', '.join(self.lines)}"
        if self.class_lines:
            remedy += f" and classes={self.classes} in {', '.join(self.class_lines)}"
        return remedy


def _joined_with_and(texts: list[str]) -> str:
    """Joins texts as in `0`, `0 and 1`, `0, 1 and 2`."""
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def _numbered(places: list[str]) -> str:
    """Formats `a.cfg:580`, `a.cfg:664` as `lines 580, 664`, and sections as `sections 81, 93`."""
    lines = [place.rpartition(":")[2] for place in places]
    noun = "line" if all(":" in place for place in places) else "section"
    numbers = ", ".join(line.removeprefix("section ") for line in lines)
    return f"{noun}{'s' if len(places) > 1 else ''} {numbers}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Folded(Finding):
    """Batch normalization was folded into the kernels on one side only.

    Attributes:
        file: the file's side, `folded` or `normalized`.
        layers: the number of convolutions that differ.
        source: the network's name.
    """

    kind: ClassVar[str] = "folded"

    file: str
    layers: int
    source: str = field(metadata=MESSAGE_ONLY)

    def _sentence(self) -> str:
        convolutions = plural(self.layers, "convolution")
        if self.file == "folded":
            return (
                f"has a bias alone in {convolutions} where {self.source} has batch normalization, "
                "as after folding it into the kernels"
            )
        return (
            f"has batch normalization in {convolutions} where {self.source} has a bias alone, as "
            "after folding"
        )

    @property
    def fix(self) -> str:
        """The cfg or file to use."""
        if self.file == "folded":
            return (
                "use the file from before folding; or leave batch normalization out of these "
                "layers (batch_normalize=0)"
            )
        return (
            "use the network from before folding, with batch normalization in these layers "
            "(batch_normalize=1)"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerShape(Finding):
    """A layer stores something else in the file than in the network.

    Attributes:
        layer: index of its section.
        section: type of its section.
        layer_type: the same as `section`, for compatibility with older versions.
        cfg_line: line of the option that differs; None without a cfg.
        file_floats_minus_model: floats in the file minus floats in the network.
        layers: for layers in another order, the indices of the two layers.
        change: `added` for a section that the file lacks, `missing` for a section before `layer`
            that the cfg lacks.
        where: the section, in words.
        problem: what differs.
        remedy: what to change.
    """

    kind: ClassVar[str] = "layer_shape"
    _old_fields: ClassVar[Mapping[str, str]] = {"story": "problem"}

    layer: int
    section: str
    layer_type: str = field(init=False)
    cfg_line: int | None
    file_floats_minus_model: int
    layers: list[int] | None = field(default=None, metadata=OPTIONAL)
    change: str | None = field(default=None, metadata=OPTIONAL)
    where: str = field(metadata=MESSAGE_ONLY)
    problem: str = field(metadata=MESSAGE_ONLY)
    remedy: str = field(metadata=MESSAGE_ONLY)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layer_type", self.section)

    def _sentence(self) -> str:
        problem = f"{self.where} {self.problem}".strip()
        return f"{problem}; {self.file_floats_minus_model:+d} floats"

    @property
    def fix(self) -> str:
        """The option to change and its cfg line, or the cfg to use."""
        return self.remedy


@dataclass(frozen=True, kw_only=True, eq=False)
class Unknown(Finding):
    """No explanation was found, or the cause has no kind.

    Attributes:
        problem: what is wrong, or which explanations were tried.
        remedy: what may help.
    """

    kind: ClassVar[str] = "unknown"
    _old_fields: ClassVar[Mapping[str, str]] = {"story": "problem"}

    problem: str = field(metadata=MESSAGE_ONLY)
    remedy: str = field(
        default="use the cfg it was trained with; it is usually kept beside the .weights file",
        metadata=MESSAGE_ONLY,
    )

    def _sentence(self) -> str:
        return self.problem

    @property
    def fix(self) -> str:
        """What may help."""
        return self.remedy
