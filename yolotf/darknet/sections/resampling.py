"""Sections without weights that change rows and columns: pools, crops, upsampling, reorg."""

from __future__ import annotations

from dataclasses import dataclass

from yolotf.darknet.layer import (
    GPU_ONLY,
    Before,
    Layer,
    Place,
    Refusal,
    Shape,
    Sliding,
    Surroundings,
    overhang,
    read_strides,
    section,
    window_words,
)
from yolotf.darknet.options import Options
from yolotf.darknet.sections.antialiased import Antialiased, sharp, windows_and_blur


@section("maxpool", "max")
@section("local_avgpool", "local_avg")
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Pool(Antialiased):
    """`[maxpool]` and `[local_avgpool]`; `padding` is the sum of both sides (parser.c:837).

    The first window starts `padding // 2` outside the input. Padding takes no part in the result; a
    window entirely in the padding (padding >= size) has the maximum -FLT_MAX and the mean 0 / 0
    (maxpool_layer.c:283-311, 346-374).
    """

    padding: int
    maxpool_depth: bool
    out_channels: int

    makes_of_inputs = "window"

    @classmethod
    def parse(cls, place: Place, options: Options, before: Before) -> Pool:
        """Reads the options."""
        shape = place.input_shape
        stride_y, stride_x = read_strides(options)
        stride = options.int("stride", 1, at_least=1)
        size = options.int("size", stride, at_least=1)
        padding = options.int("padding", size - 1, at_least=0)
        maximum = place.type == "maxpool"
        depth = maximum and options.flag("maxpool_depth")
        out_channels = options.int("out_channels", 1, at_least=1)
        antialiasing = options.int("antialiasing", 0) if maximum else 0
        if depth:
            output_shape = Shape(shape.height, shape.width, out_channels)
        else:
            rows, columns = windows_and_blur(
                options, place, padding, size, (stride_y, stride_x), antialiasing
            )
            output_shape = Shape(rows, columns, shape.channels)
        return cls(
            **place.fields(output_shape),
            size=size,
            stride_y=stride_y,
            stride_x=stride_x,
            padding=padding,
            maxpool_depth=depth,
            out_channels=out_channels,
            antialiasing=antialiasing,
        )

    @property
    def window(self) -> str:
        """Window and stride."""
        return window_words(self.size, (self.stride_y, self.stride_x))

    @property
    def channels_key(self) -> str | None:
        """`out_channels=` with `maxpool_depth`."""
        return "out_channels" if self.maxpool_depth else None

    @property
    def sliding(self) -> Sliding | None:
        """Its options; None with `maxpool_depth`."""
        if self.maxpool_depth:
            return None
        strides = self.stride_y, self.stride_x
        return Sliding(self.size, strides, self.padding // 2, self.padding)

    def fixes_keras_size(self, network: Surroundings) -> bool:
        """True with `maxpool_depth`."""
        return self.maxpool_depth

    @property
    def fixes_size(self) -> bool:
        """True if a window overhangs: how far depends on the image size."""
        return any(self.overhang)

    @property
    def overhang(self) -> tuple[int, int]:
        """Rows and columns by which the only window extends beyond the padding."""
        if self.maxpool_depth:
            return 0, 0
        if self.antialiasing:
            return sharp(self).overhang
        return overhang(self, self.size, (self.stride_y, self.stride_x), self.padding)

    @property
    def total_padding(self) -> int:
        """Padding of rows (and of columns), the sum of both sides."""
        return self.padding

    def refusal(self, network: Surroundings) -> Refusal | None:
        """Options that Darknet only supports on GPUs, and more channels than the input has."""
        key = self.set_key("maxpool_zero_nonmax")
        if key:
            return Refusal(f"{key}= is not supported, {GPU_ONLY}", key)
        if self.maxpool_depth and self.antialiasing:
            return Refusal(
                f"maxpool_depth=1 with antialiasing={self.antialiasing}: Darknet skips the blur "
                "but computes other extents after it; remove one of them",
                "antialiasing",
            )
        if self.maxpool_depth and self.out_channels > self.input_shape.channels:
            return Refusal(
                f"out_channels={self.out_channels} is more than the {self.input_shape.channels} "
                f"channels of its input; set out_channels={self.input_shape.channels} or less",
                "out_channels",
            )
        return None


@section("avgpool", "avg")
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Avgpool(Layer):
    """`[avgpool]`: the mean over all rows and columns."""

    reduces_extents = True
    passes_classes = True

    @classmethod
    def parse(cls, place: Place, options: Options, before: Before) -> Avgpool:
        """It has no options."""
        return cls(**place.fields(Shape(1, 1, place.input_shape.channels)))


@section("upsample")
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Upsample(Layer):
    """`[upsample]`: nearest neighbour, times `scale`; a negative stride sums blocks instead."""

    stride: int
    scale: float
    reverse: bool

    makes_of_inputs = "enlarge"

    @classmethod
    def parse(cls, place: Place, options: Options, before: Before) -> Upsample:
        """Reads the options (parser.c:1054)."""
        shape, stride = place.input_shape, options.int("stride", 2)
        if stride == 0:
            raise options.fail("stride=0 is not a stride; set stride=2", "stride")
        reverse, stride = stride < 0, abs(stride)
        height, width = (
            (shape.height // stride, shape.width // stride)
            if reverse
            else (shape.height * stride, shape.width * stride)
        )
        if not height or not width:
            raise options.fail(
                f"stride=-{stride} leaves nothing of {shape.width}x{shape.height}; set a "
                "stride closer to 0",
                "stride",
            )
        return cls(
            **place.fields(Shape(height, width, shape.channels)),
            stride=stride,
            scale=options.float("scale", 1.0),
            reverse=reverse,
        )

    @property
    def window(self) -> str:
        """The factor."""
        return f"{'1/' if self.reverse else ''}{self.stride}x"

    def refusal(self, network: Surroundings) -> Refusal | None:
        """A negative stride that does not divide the input."""
        shape = self.input_shape
        if self.reverse and (shape.height % self.stride or shape.width % self.stride):
            return Refusal(
                f"stride=-{self.stride} does not divide {shape.width}x{shape.height}; "
                "change width= and height= in [net] so that it does",
                "stride",
            )
        return None


@section("reorg")
@section("reorg3d")
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Reorg(Layer):
    """`[reorg]` (a shuffle specific to Darknet) and `[reorg3d]` (space to depth)."""

    stride: int
    reverse: bool

    makes_of_inputs = "rearrange"

    @classmethod
    def parse(cls, place: Place, options: Options, before: Before) -> Reorg:
        """Reads the options (parser.c:789)."""
        height, width, channels = place.input_shape
        stride = options.int("stride", 1, at_least=1)
        reverse = options.flag("reverse")
        # reorg_cpu splits channels by stride^2 in both directions (blas.c), so [reorg] needs
        # them to divide even when it packs rows and columns into channels.
        if (
            height % stride
            or width % stride
            or ((reverse or place.type == "reorg") and channels % stride**2)
        ):
            raise options.fail(
                f"stride={stride} does not divide {width}x{height}x{channels}{before.size_hint()}",
                "stride",
            )
        output_shape = (
            Shape(height * stride, width * stride, channels // stride**2)
            if reverse
            else Shape(height // stride, width // stride, channels * stride**2)
        )
        return cls(**place.fields(output_shape), stride=stride, reverse=reverse)

    @property
    def window(self) -> str:
        """The stride."""
        return f"/ {self.stride}"

    @property
    def fixes_size(self) -> bool:
        """True unless it is plain space to depth: Darknet's shuffle mixes rows and channels."""
        return self.type == "reorg" or self.reverse

    def refusal(self, network: Surroundings) -> Refusal | None:
        """Channel counts for which the shuffle would read beyond its input."""
        if self.type == "reorg3d" and not self.reverse:
            return None
        view = self.output_shape if self.type == "reorg3d" else self.input_shape
        if view.channels % self.stride**2:
            return Refusal(
                f"stride={self.stride} with reverse needs a multiple of {self.stride**4} channels, "
                f"not {self.input_shape.channels}; change filters= of the section before it",
                "stride",
            )
        return None


@section("crop")
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Crop(Layer):
    """`[crop]`: crops the center; maps 0..1 to -1..1 unless `noadjust` (crop_layer.c)."""

    noadjust: bool

    @classmethod
    def parse(cls, place: Place, options: Options, before: Before) -> Crop:
        """Reads the options (parser.c:765)."""
        height = options.int("crop_height", 1, at_least=1)
        width = options.int("crop_width", 1, at_least=1)
        shape = place.input_shape
        if height > shape.height or width > shape.width:
            raise options.fail(
                f"{width}x{height} is larger than the input, {shape.width}x{shape.height}; set a "
                "smaller crop_width= and crop_height=",
                "crop_width",
            )
        return cls(
            **place.fields(Shape(height, width, shape.channels)),
            noadjust=options.flag("noadjust"),
        )

    @property
    def fixes_size(self) -> bool:
        """True: the output has a fixed size."""
        return True
