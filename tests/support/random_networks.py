"""Hypothesis strategies: small valid networks with their expected shapes, and untidy text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import strategies as st

from yolotf.darknet import cfg

NOISE = st.sampled_from([" ", "\t", "  ", "\r", ""])
COMMENTS = st.sampled_from(["", "# filters=9", "  ; [net]", "\t", "#\x0c\u2028\xa0[conv]"])


@dataclass
class Drawn:
    """A network as sections, with its expected input indices and output shapes."""

    picture: tuple[int, int, int]
    sections: list[cfg.Section]
    inputs: list[tuple[int, ...]] = field(default_factory=list)
    shapes: list[tuple[int, int, int]] = field(default_factory=list)

    @property
    def last(self) -> tuple[int, int, int]:
        return self.shapes[-1] if self.shapes else self.picture

    def add(
        self,
        kind: str,
        shape: tuple[int, int, int],
        inputs: tuple[int, ...] | None = None,
        **options: object,
    ) -> None:
        self.inputs.append((len(self.shapes) - 1,) if inputs is None else inputs)
        self.shapes.append(shape)
        self.sections.append(section(kind, options))


def section(kind: str, options: dict[str, object]) -> cfg.Section:
    """Returns a section with options given by keyword; `from_` stands for `from`."""
    return cfg.Section(
        kind, 0, tuple(cfg.Option(key.rstrip("_"), str(value), 0) for key, value in options.items())
    )


def windows(extent: int, size: int, stride: int) -> int:
    """Counts the positions of a window step by step."""
    return len(range(0, extent - size + 1, stride))


def divisors(number: int) -> list[int]:
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]


def convolution(draw: st.DrawFn, drawn: Drawn) -> None:
    height, width, channels = drawn.last
    groups = draw(st.sampled_from(divisors(channels)))
    filters = groups * draw(st.integers(1, 4))
    size = draw(st.integers(1, 5))
    stride = draw(st.integers(1, 3))
    padding = draw(st.integers(0, 2))
    pad = draw(st.booleans())
    around = 2 * (size // 2 if pad else padding)
    shape = windows(height + around, size, stride), windows(width + around, size, stride), filters
    if min(shape) < 1:
        return
    drawn.add(
        draw(st.sampled_from(["convolutional", "conv"])),
        shape,
        filters=filters,
        size=size,
        stride=stride,
        pad=int(pad),
        padding=padding,
        groups=groups,
        batch_normalize=draw(st.integers(0, 1)),
        activation=draw(st.sampled_from(sorted(cfg.ACTIVATIONS))),
    )


def maxpool(draw: st.DrawFn, drawn: Drawn) -> None:
    height, width, channels = drawn.last
    size, stride = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    shape = windows(height + size - 1, size, stride), windows(width + size - 1, size, stride)
    drawn.add("maxpool", (*shape, channels), size=size, stride=stride)


def upsample(draw: st.DrawFn, drawn: Drawn) -> None:
    height, width, channels = drawn.last
    if height * width <= 1024:
        drawn.add("upsample", (2 * height, 2 * width, channels), stride=2)


def reference(draw: st.DrawFn, drawn: Drawn, index: int) -> int:
    """Returns a reference as written: absolute or relative."""
    return index if draw(st.booleans()) else index - len(drawn.shapes)


def of_last_size(drawn: Drawn) -> list[int]:
    return [index for index, shape in enumerate(drawn.shapes) if shape[:2] == drawn.last[:2]]


def route(draw: st.DrawFn, drawn: Drawn) -> None:
    if not drawn.shapes:
        return
    first = draw(st.integers(0, len(drawn.shapes) - 1))
    size = drawn.shapes[first][:2]
    fitting = [index for index, shape in enumerate(drawn.shapes) if shape[:2] == size]
    indices = [first, *draw(st.lists(st.sampled_from(fitting), max_size=3))]
    channels = [drawn.shapes[index][2] for index in indices]
    groups = draw(
        st.sampled_from(
            [
                count
                for count in divisors(channels[0])
                if all(each % count == 0 for each in channels)
            ]
        )
    )
    drawn.add(
        "route",
        (*size, sum(each // groups for each in channels)),
        tuple(indices),
        layers=",".join(str(reference(draw, drawn, index)) for index in indices),
        groups=groups,
        group_id=draw(st.integers(0, groups - 1)),
    )


def shortcut(draw: st.DrawFn, drawn: Drawn) -> None:
    if not drawn.shapes:
        return
    others = draw(st.lists(st.sampled_from(of_last_size(drawn)), min_size=1, max_size=3))
    drawn.add(
        "shortcut",
        drawn.last,
        (len(drawn.shapes) - 1, *others),
        from_=",".join(str(reference(draw, drawn, index)) for index in others),
        activation="linear",
        weights_type=draw(st.sampled_from(["none", "per_feature", "per_channel"])),
    )


def squeeze(draw: st.DrawFn, drawn: Drawn) -> None:
    """Returns a mean for each channel, and the layer scaled by it."""
    if not drawn.shapes:
        return
    source, shape = len(drawn.shapes) - 1, drawn.last
    drawn.add("avgpool", (1, 1, shape[2]))
    drawn.add("scale_channels", shape, (source + 1, source), from_=reference(draw, drawn, source))


def dropout(draw: st.DrawFn, drawn: Drawn) -> None:
    drawn.add("dropout", drawn.last, probability=draw(st.floats(0, 1, allow_nan=False)))


def connected(draw: st.DrawFn, drawn: Drawn) -> None:
    output = draw(st.integers(1, 9))
    drawn.add("connected", (1, 1, output), output=output, batch_normalize=draw(st.integers(0, 1)))


def head(draw: st.DrawFn, drawn: Drawn) -> None:
    classes = draw(st.integers(1, 5))
    num = draw(st.integers(1, 4))
    mask = draw(st.lists(st.integers(0, num - 1), min_size=1, max_size=3, unique=True))
    anchors = [draw(st.integers(1, 400)) for _ in range(2 * num)]
    shape = (*drawn.last[:2], len(mask) * (classes + 5))
    drawn.add("convolutional", shape, filters=shape[2], size=1, activation="linear")
    drawn.add(
        "yolo",
        shape,
        mask=",".join(map(str, mask)),
        anchors=", ".join(map(str, anchors)).replace(" ", ""),
        classes=classes,
        num=num,
    )


STEPS: tuple[Callable[[st.DrawFn, Drawn], None], ...] = (
    convolution,
    maxpool,
    upsample,
    route,
    shortcut,
    squeeze,
    dropout,
    connected,
    head,
)


@st.composite
def drawn_networks(draw: st.DrawFn) -> Drawn:
    """Draws up to a dozen layers for a small image."""
    height, width = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    channels = draw(st.integers(1, 6))
    options: dict[str, object] = {"height": height, "width": width, "channels": channels}
    drawn = Drawn((height, width, channels), [section("net", options)])
    for step in draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=10)):
        step(draw, drawn)
    return drawn


@st.composite
def scribbled(draw: st.DrawFn, text: str) -> str:
    """Returns the same cfg with added blanks, comment lines and other line ends."""
    lines = []
    for line in text.split("\n"):
        if line and draw(st.booleans()):
            place = draw(st.integers(0, len(line)))
            line = line[:place] + draw(NOISE) + line[place:]
        lines.append(line)
        if draw(st.integers(0, 5)) == 0:
            lines.append(draw(COMMENTS))
    return draw(st.sampled_from(["\n", "\r\n"])).join(lines)
