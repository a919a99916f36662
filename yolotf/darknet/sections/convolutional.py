"""`[convolutional]` and `[local]`: kernels that slide over rows and columns."""

from __future__ import annotations

from collections.abc import Iterator
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
    positions,
    read_strides,
    section,
    window_words,
)
from yolotf.darknet.options import Options
from yolotf.darknet.roles import Role, Stored, convolution
from yolotf.darknet.sections.antialiased import Antialiased, sharp, windows_and_blur


@section("convolutional", "conv")
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Convolutional(Antialiased):
    """`[convolutional]` (parser.c:169), with batch normalization if `batch_normalize=1`."""

    filters: int
    padding: int
    dilation: int
    groups: int
    batch_normalize: bool
    activation: str
    share_index: int | None
    flipped: bool
    xnor: bool

    stores_per_channel = True

    @classmethod
    def parse(cls, place: Place, options: Options, before: Before) -> Convolutional:
        """Reads the options."""
        shape = place.input_shape
        filters = options.int("filters", 1, at_least=1)
        size = options.int("size", 1, at_least=1)
        groups = options.int("groups", 1, at_least=1)
        xnor = options.flag("xnor")
        if xnor and groups > 1:
            before.warn(options.section, "groups", f"groups={groups} has no effect with xnor=1")
            groups = 1  # convolutional_layer.c:510
        stride_y, stride_x = read_strides(options)
        padding = size // 2 if options.flag("pad") else options.int("padding", 0, at_least=0)
        if shape.channels % groups or filters % groups:
            raise options.fail(
                f"groups={groups} does not divide {shape.channels} input channels and "
                f"filters={filters}; set groups= to a divisor of both",
                "groups",
            )
        written = {option.key for option in options.section.options}
        if "size" not in written and written & {"stride", "pad", "padding", "dilation"}:
            # Probably forgotten: a 1x1 kernel would need no padding.
            before.warn(options.section, "size", "size= is missing, so the kernel is 1x1")
        share = options.ints("share_index")
        share_index = None
        if share:
            (share_index,) = before.references(place, options, "share_index")
        antialiasing = options.int("antialiasing", 0)
        rows, columns = windows_and_blur(
            options, place, 2 * padding, size, (stride_y, stride_x), antialiasing
        )
        return cls(
            **place.fields(Shape(rows, columns, filters)),
            filters=filters,
            size=size,
            stride_y=stride_y,
            stride_x=stride_x,
            padding=padding,
            dilation=1 if size == 1 else options.int("dilation", 1, at_least=1),
            groups=groups,
            batch_normalize=options.flag("batch_normalize") or options.flag("cbn"),
            activation=_activation(options, xnor),
            share_index=share_index,
            flipped=options.flag("flipped"),
            antialiasing=antialiasing,
            xnor=xnor,
        )

    @property
    def window(self) -> str:
        """Kernel, stride and dilation."""
        return window_words(self.size, (self.stride_y, self.stride_x), self.dilation)

    @property
    def operations(self) -> int:
        """A multiplication and an addition per kernel value and position; a 32nd with xnor."""
        rows, columns, filters = self.sharp_shape
        depth = self.input_shape.channels // self.groups
        whole = 2 * filters * self.size**2 * depth * rows * columns
        return whole // 32 if self.xnor else whole  # convolutional_layer.c:781

    def stored(self) -> Iterator[Stored]:
        """Bias or batch normalization, and an OIHW kernel; nothing with `share_index`."""
        if self.share_index is None:
            channels = self.input_shape.channels // self.groups
            for array in convolution(
                (self.filters, channels, self.size, self.size),
                normalized=self.batch_normalize,
                with_scales=not self.dontloadscales,
            ):
                if self.flips_kernel and array.role is Role.KERNEL:
                    array = array._replace(shape=(*array.shape[1:], self.filters))
                yield array

    @property
    def flips_kernel(self) -> bool:
        """`flipped=1`: the kernel is stored with filters last (parser.c:2201)."""
        return self.flipped and self.share_index is None

    @property
    def channels_key(self) -> str:
        """`filters=`."""
        return "filters"

    @property
    def fixes_size(self) -> bool:
        """True if a window overhangs: how far depends on the image size."""
        return any(self.overhang)

    @property
    def sliding(self) -> Sliding:
        """Its options; Darknet multiplies the padding by the dilation."""
        before = self.padding * self.dilation
        return Sliding(self.size, (self.stride_y, self.stride_x), before, 2 * before)

    @property
    def channel_groups(self) -> int:
        """`groups=`."""
        return self.groups

    @property
    def groups_divide(self) -> bool:
        """Whether `groups=` divides input channels and `filters=`."""
        return not (self.input_shape.channels % self.groups or self.filters % self.groups)

    @property
    def total_padding(self) -> int:
        """Padding of rows (and of columns), the sum of both sides."""
        return 2 * self.padding

    @property
    def overhang(self) -> tuple[int, int]:
        """Rows and columns of zeros that the only window reads beyond the padding."""
        if self.antialiasing:
            return sharp(self).overhang
        return overhang(self, self.size, (self.stride_y, self.stride_x), self.total_padding)

    @property
    def kernel_source(self) -> int | None:
        """`share_index`."""
        return self.share_index

    def kernel_owner(self, network: Surroundings) -> Convolutional | None:
        """The section whose kernel it uses: itself, or the target of `share_index`."""
        owner = self
        while owner.share_index is not None:
            shared = network.layers[owner.share_index]
            if not isinstance(shared, Convolutional):
                return None
            owner = shared
        return owner

    def refusal(self, network: Surroundings) -> Refusal | None:
        """Options that Darknet only supports on GPUs, and kernels that cannot be shared."""
        # GPU only: on a CPU, Darknet ignores coordconv and uses zeros as binary kernel.
        key = self.set_key("binary", "coordconv")
        if key:
            return Refusal(f"{key}= is not supported, {GPU_ONLY}", key)
        if self.dilation > 1 and 2 * self.padding != self.size - 1:
            return Refusal(
                f"dilation={self.dilation} with size={self.size} and a padding of {self.padding} "
                "makes Darknet write past its own output; set pad=1 and an odd size",
                "dilation",
            )
        if self.xnor and (refusal := self._xnor_refusal()):
            return refusal
        if self.share_index is None:
            return None
        owner = self.kernel_owner(network)
        if owner is None:
            target = network.layers[self.share_index]
            return Refusal(
                f"share_index={self.share_index} points to [{target.type}], which has no kernel "
                "to share; point it to a [convolutional]",
                "share_index",
            )
        here, there = (
            (
                layer.size,
                layer.filters,
                layer.groups,
                layer.input_shape.channels,
                layer.batch_normalize,
            )
            for layer in (self, owner)
        )
        if here != there:
            return Refusal(
                f"share_index={self.share_index} points to a kernel of another kind: size, "
                f"filters, groups, channels and batch_normalize are {here} here, {there} there; "
                "make them equal",
                "share_index",
            )
        return None

    def _xnor_refusal(self) -> Refusal | None:
        """What Darknet's binary convolution ignores (convolutional_layer.c:1239-1346)."""
        if self.stride_x != self.stride_y:
            return Refusal(
                f"xnor=1 with stride_x={self.stride_x} and stride_y={self.stride_y}: Darknet "
                "does not binarize then; set one stride",
                "xnor",
            )
        if self.antialiasing:  # Darknet returns before the blur
            return Refusal(
                f"xnor=1 with antialiasing={self.antialiasing}: Darknet detects without the blur, "
                "with other extents; remove one of them",
                "antialiasing",
            )
        if self.dilation > 1:
            return Refusal(
                f"xnor=1 with dilation={self.dilation}: Darknet trains with it and detects "
                "without; remove one of them",
                "dilation",
            )
        plain = (self.size, self.padding, self.stride_x) == (3, 1, 1)
        channels = self.input_shape.channels
        if channels % 32 and not plain:  # "Error: is no non-optimized version", gemm.c:2321
            return Refusal(
                f"xnor=1 with {channels} input channels: Darknet ignores the input unless its "
                "channels are a multiple of 32 or size=3 stride=1 pad=1; set one of the two",
                "xnor",
            )
        return None

    def has_activation(self, activation: str) -> bool:
        """Always: each has a function here (convolutional_layer.c:1194)."""
        return True


def _activation(options: Options, xnor: bool) -> str:
    """`linear` with bin_output=1: Darknet only passes on the sign (network.c:1410)."""
    activation = options.activation("logistic")
    return "linear" if xnor and options.flag("bin_output") else activation


@section("local")
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Local(Layer):
    """`[local]`: a convolution whose kernel differs at every position (parser.c:148)."""

    filters: int
    size: int
    stride: int
    pad: bool
    activation: str

    stores_per_channel = True

    @classmethod
    def parse(cls, place: Place, options: Options, before: Before) -> Local:
        """Reads the options."""
        shape = place.input_shape
        filters = options.int("filters", 1, at_least=1)
        size = options.int("size", 1, at_least=1)
        stride = options.int("stride", 1, at_least=1)
        pad = options.flag("pad")
        # local_layer.c:10-24: with pad the window may overhang by size - 1 in total.
        window = 1 if pad else size
        rows, columns = (positions(extent, window, stride) for extent in shape[:2])
        if rows < 1 or columns < 1:
            raise options.fail(
                f"size={size} does not fit into {shape.width}x{shape.height}; set a smaller size=",
                "size",
            )
        return cls(
            **place.fields(Shape(rows, columns, filters)),
            filters=filters,
            size=size,
            stride=stride,
            pad=pad,
            activation=options.activation("logistic"),
        )

    @property
    def window(self) -> str:
        """Kernel and stride."""
        return window_words(self.size, (self.stride, self.stride))

    @property
    def sliding(self) -> Sliding:
        """Its options; `pad` is one row and column (local_layer.c:104)."""
        before = int(self.pad)
        return Sliding(self.size, (self.stride, self.stride), before, 2 * before)

    @property
    def operations(self) -> int:
        """As for a convolution."""
        rows, columns, filters = self.output_shape
        return 2 * filters * self.size**2 * self.input_shape.channels * rows * columns

    def stored(self) -> Iterator[Stored]:
        """A bias and a kernel for every position (parser.c:2341)."""
        rows, columns, filters = self.output_shape
        kernel = (rows * columns, filters, self.input_shape.channels, self.size, self.size)
        yield Stored("", Role.BIAS, (filters, rows, columns))
        yield Stored("", Role.KERNEL, kernel)

    @property
    def channels_key(self) -> str:
        """`filters=`."""
        return "filters"

    @property
    def fixes_size(self) -> bool:
        """True: it stores a kernel for every position."""
        return True

    @property
    def stored_by_size(self) -> bool:
        """True, for the same reason."""
        return True

    @property
    def overhang(self) -> tuple[int, int]:
        """Rows and columns of zeros that the only window reads beyond the padding."""
        return overhang(self, self.size, (self.stride, self.stride), 2 * int(self.pad))

    def refusal(self, network: Surroundings) -> Refusal | None:
        """A padded window whose size is not 3.

        Darknet always pads one row and column (local_layer.c:104), but counts positions as if the
        padding matched the size.
        """
        if self.pad and self.size != 3:
            return Refusal(
                f"[local] with pad=1 needs size=3 in Darknet, not {self.size}; set size=3 or pad=0",
                "size",
            )
        return None
