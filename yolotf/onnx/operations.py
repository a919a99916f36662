"""ONNX's operations by the calls that `tf.raw_ops` takes: what `yolotf.graphs` calls `ops`.

The sections are described once, channels last, in `yolotf.graphs`. Here the same calls write nodes
that compute channels first, as the file holds kernels and as engines like it: a tensor knows the
order of its axes in memory (`yolotf.onnx.tensors`), and only where a section asks for the numbers
in another order is there a Transpose. Only what the sections use is here, and only for the
arguments that they use it with.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from yolotf.onnx.proto import Dim
from yolotf.onnx.tensors import (
    NCHW,
    OIHW,
    Axes,
    Extent,
    Filled,
    Operation,
    Sizes,
    Tensor,
    Value,
    broadcast,
    divided,
    identity,
    moves_only_ones,
    product,
    times,
    windows,
)

_TO_THE_END = np.iinfo(np.int64).max
_UNARY = {
    "Abs": "Abs",
    "Elu": "Elu",
    "Exp": "Exp",
    "Floor": "Floor",
    "Neg": "Neg",
    "Relu": "Relu",
    "Sigmoid": "Sigmoid",
    "Softplus": "Softplus",
    "Tanh": "Tanh",
}
_BINARY = {
    "AddV2": "Add",
    "Equal": "Equal",
    "Greater": "Greater",
    "GreaterEqual": "GreaterOrEqual",
    "Less": "Less",
    "Maximum": "Max",
    "Minimum": "Min",
    "Mul": "Mul",
    "Pow": "Pow",
    "RealDiv": "Div",
    "Sub": "Sub",
}
"""TensorFlow's names, and ONNX's."""
_COMPARISONS = {"Equal", "Greater", "GreaterOrEqual", "Less"}


class Operations:
    """Writes operations into a list.

    Attributes:
        operations: in an order in which they can run.
    """

    def __init__(self) -> None:
        """Nothing is written yet."""
        self.operations: list[Operation] = []
        self._constants: dict[tuple[Any, ...], Value] = {}
        self._arranged: dict[tuple[int, Axes], Value] = {}
        self._unnamed = 0

    def __getattr__(self, kind: str) -> Callable[..., Any]:
        if kind in _UNARY:
            write = functools.partial(self._unary, _UNARY[kind])
        elif kind in _BINARY:
            write = functools.partial(self._binary, _BINARY[kind])
        else:
            raise AttributeError(f"no operation {kind}")
        self.__dict__[kind] = write
        return write

    # What enters.

    def input(self, name: str, shape: Sequence[Dim], order: Axes, dtype: str = "float32") -> Tensor:
        """What is given to each run; `shape` as the description sees it."""
        return Tensor(Value(dtype, name=name), tuple(shape), order)

    def weight(self, key: str, stored: tuple[int, ...], axes: Axes | None) -> Tensor:
        """An array of the network.

        Args:
            key: in `NetworkGraph.shapes`.
            stored: its shape there.
            axes: its order there, see `NetworkGraph.axes`; None for that of the description.
        """
        order = axes or identity(len(stored))
        shape = tuple(stored[order.index(axis)] for axis in range(len(stored)))
        return Tensor(Value(weight=key, dims=stored), shape, order)

    def end_section(self, name: str, output: Tensor) -> None:
        """Gives all that was written since the last section ended to this one."""
        for operation in self.operations[self._unnamed :]:
            operation.section = name
            if output.value in operation.outputs:
                output.value.name = name
        self._unnamed = len(self.operations)

    def in_order(self, tensor: Tensor | Filled, order: Axes) -> Value:
        """The value whose axes in memory have this order."""
        tensor = self._solid(tensor)
        value = tensor.value
        if tensor.order == order and not value.weight:
            return value
        key = (id(value), order)
        if value.weight or key not in self._arranged:
            found = self._rearranged(tensor, order)
            if value.weight:
                return found
            self._arranged[key] = found
        return self._arranged[key]

    def copy(self, value: Value) -> Value:
        """Another value with the same numbers."""
        return self.write("Identity", [value], dtype=value.dtype)[0]

    def suppress(
        self, boxes: Tensor, scores: Tensor, most: int, iou: float, score: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Greedy suppression by overlap, picture by picture and class by class.

        Args:
            boxes: [batch, boxes, 4], corners.
            scores: [batch, boxes, classes].
            most: boxes of a class and picture that stay.
            iou: boxes that overlap more exclude each other.
            score: what is not above it is left out.

        Returns:
            [detections, 4] boxes, [detections] scores, int64 classes and int64 pictures: by
            picture, then class, the best first.
        """
        by_class = self.in_order(scores, (0, 2, 1))
        inputs = [
            self.in_order(boxes, (0, 1, 2)),
            by_class,
            self._integers([most]),
            self._constant(np.array([iou], np.float32)),
            self._constant(np.array([score], np.float32)),
        ]
        (chosen,) = self.write("NonMaxSuppression", inputs, dtype="int64")

        def columns(*wanted: int) -> Value:
            return self.write("Gather", [chosen, self._integers(wanted)], dtype="int64", axis=1)[0]

        count: Dim = "detections"
        (kept,) = self.write("GatherND", [inputs[0], columns(0, 2)])
        (its_scores,) = self.write("GatherND", [by_class, columns(0, 1, 2)])
        classes, pictures = (self._viewed(columns(place), (count, 1), (count,)) for place in (1, 0))
        return (
            Tensor(kept, (count, 4), (0, 1)),
            Tensor(its_scores, (count,), (0,)),
            Tensor(classes, (count,), (0,)),
            Tensor(pictures, (count,), (0,)),
        )

    # Operations that need more than their name.

    def BiasAdd(self, *, value: Tensor, bias: Tensor) -> Tensor:
        """A part of the convolution or matrix product before it."""
        before = value.value.operation
        takes_one = before is not None and before.kind in ("Conv", "Gemm")
        if before is not None and takes_one and len(before.inputs) == 2 and not value.value.uses:
            added = self.in_order(bias, (0,))
            added.uses += 1
            before.inputs.append(added)
            return value
        summed: Tensor = self._binary("Add", x=value, y=bias)
        return summed

    def Conv2D(
        self,
        *,
        input: Tensor,
        filter: Any,
        strides: Sequence[int],
        padding: str,
        explicit_paddings: Sequence[int] = (),
        dilations: Sequence[int] = (1, 1, 1, 1),
    ) -> Tensor:
        """Any number of groups: as many as the kernel has too few channels for one."""
        kernel = self._tensor(filter)
        rows, columns, depth, filters = _known(kernel.shape)
        channels = input.shape[3]
        assert isinstance(channels, int)
        return self._convolution(
            input,
            self.in_order(kernel, OIHW),
            filters,
            (rows, columns),
            strides[1:3],
            _sides(padding, explicit_paddings, (rows, columns), dilations[1:3]),
            dilations[1:3],
            channels // depth,
        )

    def DepthwiseConv2dNative(
        self, *, input: Tensor, filter: Any, strides: Sequence[int], padding: str
    ) -> Tensor:
        """A convolution with a group for every channel."""
        kernel = self._tensor(filter)
        rows, columns, channels, multiplier = _known(kernel.shape)
        filters = channels * multiplier
        value = self._viewed(
            self.in_order(kernel, (2, 3, 0, 1)),
            (channels, multiplier, rows, columns),
            (filters, 1, rows, columns),
        )
        sides = _sides(padding, (), (rows, columns), (1, 1))
        size = (rows, columns)
        return self._convolution(input, value, filters, size, strides[1:3], sides, (1, 1), channels)

    def _convolution(
        self,
        x: Tensor,
        kernel: Value,
        filters: int,
        size: tuple[int, int],
        strides: Sequence[int],
        sides: Sequence[Sequence[int]],
        dilations: Sequence[int],
        groups: int,
    ) -> Tensor:
        (output,) = self.write(
            "Conv",
            [self.in_order(x, NCHW), kernel],
            kernel_shape=list(size),
            strides=list(strides),
            pads=_pads(sides),
            dilations=list(dilations),
            group=groups,
        )
        extents = map(windows, x.shape[1:3], size, strides, sides, dilations)
        return Tensor(output, (x.shape[0], *extents, filters), NCHW)

    def MaxPool(
        self,
        *,
        input: Tensor,
        ksize: Sequence[int],
        strides: Sequence[int],
        padding: str,
        explicit_paddings: Sequence[int] = (),
    ) -> Tensor:
        """The largest of a window."""
        return self._pool("MaxPool", input, ksize, strides, padding, explicit_paddings)

    def AvgPool(
        self, *, value: Tensor, ksize: Sequence[int], strides: Sequence[int], padding: str
    ) -> Tensor:
        """The mean of what of a window lies inside."""
        return self._pool("AveragePool", value, ksize, strides, padding, (), count_include_pad=0)

    def _pool(
        self,
        kind: str,
        x: Tensor,
        ksize: Sequence[int],
        strides: Sequence[int],
        padding: str,
        explicit: Sequence[int],
        **attributes: Any,
    ) -> Tensor:
        size, steps = tuple(ksize[1:3]), tuple(strides[1:3])
        sides = _sides(padding, explicit, size, (1, 1))
        even = all(isinstance(extent, int) and extent % 2 == 0 for extent in x.shape[1:3])
        if padding == "SAME" and steps != (1, 1):
            assert steps == size == (2, 2), "another place of padding for every size"
            sides = ((0, 0), (0, 0)) if even else ((0, 1), (0, 1))
        (output,) = self.write(
            kind,
            [self.in_order(x, NCHW)],
            kernel_shape=list(size),
            strides=list(steps),
            pads=_pads(sides),
            **attributes,
        )
        extents = map(windows, x.shape[1:3], size, steps, sides)
        return Tensor(output, (x.shape[0], *extents, x.shape[3]), NCHW)

    def ResizeNearestNeighbor(
        self, *, images: Tensor, size: Sequence[int | Extent], half_pixel_centers: bool
    ) -> Tensor:
        """Repeats rows and columns a whole number of times."""
        factors = []
        for axis, wanted in zip((1, 2), size, strict=True):
            if isinstance(wanted, Extent):
                assert (wanted.tensor, wanted.axis) == (images, axis)
                factors.append(wanted.factor)
            else:
                factors.append(wanted // _known(images.shape[axis : axis + 1])[0])
        (output,) = self.write(
            "Resize",
            [
                self.in_order(images, NCHW),
                None,
                self._constant(np.array([1, 1, *factors], np.float32)),
            ],
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
        batch, *extents, channels = images.shape
        extents = [times(extent, factor) for extent, factor in zip(extents, factors, strict=True)]
        return Tensor(output, (batch, *extents, channels), NCHW)

    def SpaceToDepth(self, *, input: Tensor, block_size: int) -> Tensor:
        """Blocks of rows and columns become channels."""
        (output,) = self.write("SpaceToDepth", [self.in_order(input, NCHW)], blocksize=block_size)
        batch, *extents, channels = input.shape
        extents = [divided(extent, block_size) for extent in extents]
        return Tensor(output, (batch, *extents, times(channels, block_size**2)), NCHW)

    def ExtractImagePatches(
        self,
        *,
        images: Tensor,
        ksizes: Sequence[int],
        strides: Sequence[int],
        rates: Sequence[int],
        padding: str,
    ) -> Tensor:
        """The floats of every window, by row, column and channel: a slice for each place in it."""
        assert padding == "VALID"
        assert list(rates) == [1, 1, 1, 1]
        x = Tensor(self.in_order(images, NCHW), images.shape, NCHW)
        (rows, columns), steps = ksizes[1:3], list(strides)
        extents = [
            _known([windows(extent, size, step, (0, 0))])[0]
            for extent, size, step in zip(
                images.shape[1:3], (rows, columns), steps[1:3], strict=True
            )
        ]
        spans = [(extent - 1) * step + 1 for extent, step in zip(extents, steps[1:3], strict=True)]
        parts = [
            self.StridedSlice(
                input=x,
                begin=[0, row, column, 0],
                end=[0, row + spans[0], column + spans[1], 0],
                strides=steps,
                end_mask=0b1001,
            )
            for row in range(rows)
            for column in range(columns)
        ]
        patches: Tensor = self.ConcatV2(values=parts, axis=3)
        return patches

    def MatMul(self, *, a: Tensor, b: Tensor) -> Tensor:
        """A matrix product, whose right side may be stored either way."""
        turned = b.order == (1, 0)
        inputs = [self.in_order(a, (0, 1)), self.in_order(b, b.order)]
        (output,) = self.write("Gemm", inputs, transB=int(turned))
        return Tensor(output, (a.shape[0], b.shape[1]), (0, 1))

    def BatchMatMulV2(self, *, x: Tensor, y: Tensor) -> Tensor:
        """[batch, positions, 1, depth] times [positions, depth, filters]."""
        batch, positions, one, depth = x.shape
        assert one == 1
        # The pictures are the rows of each product: one product a position, and none of the axes
        # is repeated, which OpenCV 4.14 does wrongly.
        order = (1, 2, 0, 3)
        right = self._viewed(
            self.in_order(y, identity(3)), y.shape, (positions, 1, depth, y.shape[-1])
        )
        (output,) = self.write("MatMul", [self.in_order(x, order), right])
        return Tensor(output, (batch, positions, 1, y.shape[-1]), order)

    def Softmax(self, *, logits: Tensor) -> Tensor:
        """Over the last axis."""
        axis = logits.order.index(logits.rank - 1)
        (output,) = self.write("Softmax", [self._plain(logits)], axis=axis)
        return Tensor(output, logits.shape, logits.order)

    def LeakyRelu(self, *, features: Tensor, alpha: float) -> Tensor:
        """`alpha` times what is below 0."""
        (output,) = self.write("LeakyRelu", [self._plain(features)], alpha=float(alpha))
        return Tensor(output, features.shape, features.order)

    def Relu6(self, *, features: Tensor) -> Tensor:
        """Between 0 and 6."""
        bounds = [self._constant(np.float32(0)), self._constant(np.float32(6))]
        (output,) = self.write("Clip", [self._plain(features), *bounds])
        return Tensor(output, features.shape, features.order)

    def Square(self, *, x: Tensor) -> Tensor:
        """Its product with itself."""
        squared: Tensor = self._binary("Mul", x=x, y=x)
        return squared

    def Expm1(self, *, x: Tensor) -> Tensor:
        """exp(x) - 1."""
        less: Tensor = self._binary("Sub", x=self._unary("Exp", x=x), y=1.0)
        return less

    def FloorDiv(self, *, x: Tensor, y: Any) -> Tensor:
        """The quotient, rounded down; of integers, none of which is negative here."""
        quotient: Tensor = self._binary("Div", x=x, y=y)
        if x.dtype != "int64":
            quotient = self._unary("Floor", x=quotient)
        return quotient

    def FloorMod(self, *, x: Tensor, y: Any) -> Tensor:
        """What is left of x behind the next lower multiple of y."""
        whole = self.FloorDiv(x=x, y=y)
        left: Tensor = self._binary("Sub", x=x, y=self._binary("Mul", x=whole, y=y))
        return left

    def SelectV2(self, *, condition: Tensor, t: Any, e: Any) -> Tensor:
        """Of two tensors one or the other, element by element."""
        return self._each("Where", [condition, t, e])

    def OnesLike(self, *, x: Tensor) -> Filled:
        """1, in the shape of x."""
        return Filled(1.0, x)

    def ZerosLike(self, *, x: Tensor) -> Filled:
        """0, in the shape of x."""
        return Filled(0.0, x)

    def Mean(self, *, input: Tensor, axis: Sequence[int], keep_dims: bool) -> Tensor:
        """Over some axes."""
        pools = input.order == NCHW and sorted(axis) == [1, 2] and keep_dims
        if not pools:
            return self._reduce("ReduceMean", input, axis, keep_dims)
        (output,) = self.write("GlobalAveragePool", [self._plain(input)])
        return Tensor(output, (input.shape[0], 1, 1, input.shape[3]), NCHW)

    def Sum(self, *, input: Tensor, axis: Sequence[int], keep_dims: bool) -> Tensor:
        """Over some axes."""
        return self._reduce("ReduceSum", input, axis, keep_dims)

    def Max(self, *, input: Tensor, axis: Sequence[int], keep_dims: bool) -> Tensor:
        """Over some axes."""
        return self._reduce("ReduceMax", input, axis, keep_dims)

    def _reduce(self, kind: str, x: Tensor, axis: Sequence[int], keep_dims: bool) -> Tensor:
        gone = {one % x.rank for one in axis}
        places = sorted(x.order.index(one) for one in gone)
        inputs: list[Value | None] = [self._plain(x)]
        attributes: dict[str, Any] = {"keepdims": int(keep_dims)}
        if kind == "ReduceSum":  # whose axes are an input since opset 13
            inputs.append(self._integers(places))
        else:
            attributes["axes"] = places
        (output,) = self.write(kind, inputs, **attributes)
        if keep_dims:
            shape = tuple(1 if one in gone else extent for one, extent in enumerate(x.shape))
            return Tensor(output, shape, x.order)
        left = [one for one in range(x.rank) if one not in gone]
        order = tuple(left.index(one) for one in x.order if one not in gone)
        return Tensor(output, tuple(x.shape[one] for one in left), order)

    # Operations on axes.

    def Transpose(self, *, x: Tensor, perm: Sequence[int]) -> Tensor:
        """Other names for the axes; nothing is written."""
        order = tuple(list(perm).index(axis) for axis in x.order)
        return Tensor(x.value, tuple(x.shape[axis] for axis in perm), order)

    def Reshape(self, *, tensor: Tensor, shape: Sequence[int | Extent]) -> Tensor:
        """The same numbers, in the description's order of axes, in another shape."""
        wanted = Sizes(shape)
        dims = _reshaped(tensor.shape, wanted)
        straight = identity(tensor.rank)
        if tensor.value.weight or not moves_only_ones(tensor.shape, tensor.order, straight):
            value, before = self.in_order(tensor, straight), tensor.shape
        else:
            value, before = tensor.value, tensor.in_memory
        return Tensor(self._viewed(value, before, dims, wanted), dims, identity(len(dims)))

    def ConcatV2(self, *, values: Sequence[Any], axis: int) -> Any:
        """Tensors behind each other; or sizes."""
        if any(isinstance(one, Sizes) for one in values):
            return Sizes(extent for one in values for extent in one)
        tensors = [self._solid(self._tensor(one)) for one in values]
        first = tensors[0]
        order = next((one.order for one in tensors if one.order == NCHW), first.order)
        axis %= first.rank
        inputs = [self.in_order(one, order) for one in tensors]
        (output,) = self.write("Concat", inputs, dtype=first.dtype, axis=order.index(axis))
        extents = [one.shape[axis] for one in tensors]
        known = all(isinstance(one, int) for one in extents)
        joined: Dim = sum(_known(extents)) if known else f"({'+'.join(map(str, extents))})"
        shape = (*first.shape[:axis], joined, *first.shape[axis + 1 :])
        return Tensor(output, shape, order)

    def Split(self, *, axis: int, value: Tensor, num_split: int) -> list[Tensor]:
        """Equal parts."""
        extent = _known([value.shape[axis]])[0] // num_split
        return self.SplitV(
            value=value, size_splits=[extent] * num_split, axis=axis, num_split=num_split
        )

    def SplitV(
        self, *, value: Tensor, size_splits: Sequence[int], axis: int, num_split: int
    ) -> list[Tensor]:
        """Parts of these sizes."""
        axis %= value.rank
        outputs = self.write(
            "Split",
            [self._plain(value), self._integers(size_splits)],
            count=num_split,
            axis=value.order.index(axis),
        )
        before, after = value.shape[:axis], value.shape[axis + 1 :]
        return [
            Tensor(output, (*before, size, *after), value.order)
            for output, size in zip(outputs, size_splits, strict=True)
        ]

    def Unpack(self, *, value: Tensor, num: int, axis: int) -> list[Tensor]:
        """One for each place on an axis, which is gone then."""
        straight = identity(value.rank)
        source = self.in_order(value, straight)
        shape = (*value.shape[:axis], *value.shape[axis + 1 :])
        found = []
        for place in range(num):
            index = self._constant(np.array(place, np.int64))
            (output,) = self.write("Gather", [source, index], axis=axis)
            found.append(Tensor(output, shape, identity(len(shape))))
        return found

    def GatherV2(self, *, params: Tensor, indices: Sequence[int], axis: int) -> Tensor:
        """Places on an axis."""
        axis %= params.rank
        where = self._integers(indices)
        inputs = [self._plain(params), where]
        (output,) = self.write("Gather", inputs, axis=params.order.index(axis))
        shape = (*params.shape[:axis], len(indices), *params.shape[axis + 1 :])
        return Tensor(output, shape, params.order)

    def Slice(self, *, input: Any, begin: Sequence[int], size: Sequence[int]) -> Any:
        """A part of each axis; of sizes, some of them."""
        if isinstance(input, Sizes):
            return Sizes(input[begin[0] : begin[0] + size[0]])
        end = [begin[axis] + count if count >= 0 else 0 for axis, count in enumerate(size)]
        open_axes = sum(1 << axis for axis, count in enumerate(size) if count < 0)
        return self.StridedSlice(
            input=input, begin=begin, end=end, strides=[1] * len(size), end_mask=open_axes
        )

    def StridedSlice(
        self,
        *,
        input: Tensor,
        begin: Sequence[int],
        end: Sequence[int | Extent],
        strides: Sequence[int],
        end_mask: int,
    ) -> Tensor:
        """`input[begin:end:strides]`, up to the end of axes in the mask."""
        cut: list[tuple[int, int, int | Extent, int]] = []  # place in memory, begin, end, step
        shape = list(input.shape)
        for axis, extent in enumerate(input.shape):
            to_the_end = bool(end_mask >> axis & 1)
            last: int | Extent = _TO_THE_END if to_the_end else end[axis]
            if begin[axis] == 0 and strides[axis] == 1 and last in (_TO_THE_END, extent):
                continue
            cut.append((input.order.index(axis), begin[axis], last, strides[axis]))
            shape[axis] = _span(extent, begin[axis], last, strides[axis])
        if not cut:
            return input
        places, begins, ends, steps = zip(*sorted(cut), strict=True)
        inputs = [
            self._plain(input),
            self._integers(begins),
            self._vector(Sizes(ends)),
            self._integers(places),
        ]
        if any(step != 1 for step in steps):
            inputs.append(self._integers(steps))
        (output,) = self.write("Slice", inputs, dtype=input.dtype)
        return Tensor(output, tuple(shape), input.order)

    def Pad(self, *, input: Tensor, paddings: Sequence[Sequence[int]]) -> Tensor:
        """Zeros around."""
        return self.PadV2(input=input, paddings=paddings, constant_values=0.0)

    def PadV2(
        self, *, input: Tensor, paddings: Sequence[Sequence[int]], constant_values: float
    ) -> Tensor:
        """A number around."""
        x = self._solid(input)
        inputs = [self._plain(x), self._integers(_pads([paddings[axis] for axis in x.order]))]
        if constant_values:  # its own: OpenCV 4.14 takes none that another operation has, too
            inputs.append(Value(constant=np.array(constant_values, np.float32)))
        (output,) = self.write("Pad", inputs, mode="constant")
        shape = [windows(extent, 1, 1, paddings[axis]) for axis, extent in enumerate(x.shape)]
        return Tensor(output, tuple(shape), x.order)

    def Tile(self, *, input: Tensor, multiples: Sequence[int | Extent]) -> Tensor:
        """Several copies along each axis."""
        counts = Sizes(multiples)
        if all(isinstance(one, int) and one == 1 for one in counts):
            return input
        straight = identity(input.rank)
        inputs = [self.in_order(input, straight), self._vector(counts)]
        (output,) = self.write("Tile", inputs)
        shape = tuple(
            _tiled(extent, count) for extent, count in zip(input.shape, counts, strict=True)
        )
        return Tensor(output, shape, straight)

    def Pack(self, *, values: Sequence[Tensor], axis: int) -> Tensor:
        """Tensors of one shape behind each other, on an axis of their own."""
        wide = [self.ExpandDims(input=one, axis=axis) for one in values]
        packed: Tensor = self.ConcatV2(values=wide, axis=axis)
        return packed

    def ExpandDims(self, *, input: Tensor | Filled, axis: int) -> Tensor:
        """One more axis, of extent 1."""
        x = self._solid(input)
        axis %= x.rank + 1
        shape = (*x.shape[:axis], 1, *x.shape[axis:])
        order = (*(one + (one >= axis) for one in x.order), axis)
        return Tensor(self._viewed(self._plain(x), x.in_memory, (*x.in_memory, 1)), shape, order)

    def Squeeze(self, *, input: Tensor, axis: Sequence[int]) -> Tensor:
        """One axis of extent 1 less."""
        (gone,) = (one % input.rank for one in axis)
        assert input.shape[gone] == 1
        shape = (*input.shape[:gone], *input.shape[gone + 1 :])
        order = tuple(one - (one > gone) for one in input.order if one != gone)
        after = tuple(shape[one] for one in order)
        return Tensor(self._viewed(self._plain(input), input.in_memory, after), shape, order)

    def Range(self, *, start: int, limit: Tensor, delta: int) -> Tensor:
        """Numbers from `start` up."""
        first, step = (self._constant(np.array(one, np.int64)) for one in (start, delta))
        (output,) = self.write("Range", [first, self._plain(limit), step], dtype="int64")
        return Tensor(output, (f"range_{len(self.operations)}",), (0,))

    def Cast(self, *, x: Tensor, DstT: str) -> Tensor:
        """The same numbers as float32."""
        assert DstT == "float32"
        (output,) = self.write("Cast", [self._plain(x)], to=1)
        return Tensor(output, x.shape, x.order)

    def scalar(self, size: int | Extent) -> Any:
        """An extent as a number, or as a tensor of int64."""
        if isinstance(size, int):
            return size
        value = self._vector(Sizes([size]))
        return Tensor(self._viewed(value, (1,), ()), (), ())

    def Shape(self, *, input: Tensor) -> Sizes:
        """The extents, as far as they are known."""
        return Sizes(
            extent if isinstance(extent, int) else Extent(input, axis)
            for axis, extent in enumerate(input.shape)
        )

    # Elements.

    def _unary(self, kind: str, **arguments: Any) -> Any:
        (x,) = arguments.values()
        if isinstance(x, Filled):
            assert kind == "Neg"
            return Filled(-x.number, x.like)
        (output,) = self.write(kind, [self._plain(x)])
        return Tensor(output, x.shape, x.order)

    def _binary(self, kind: str, *, x: Any, y: Any) -> Any:
        if isinstance(x, Sizes):
            assert kind == "Mul"
            return Sizes(_multiplied(*pair) for pair in zip(x, y, strict=True))
        return self._each(kind, [x, y], dtype="bool" if kind in _COMPARISONS else None)

    def _each(self, kind: str, operands: Sequence[Any], dtype: str | None = None) -> Tensor:
        """An operation on each element, of tensors that are brought to one order of axes."""
        dtypes = [one.dtype for one in operands if isinstance(one, Tensor) and one.dtype != "bool"]
        first = dtypes[0] if dtypes else "float32"
        # A number will do for what is filled with it, if others have the shape.
        whole = [one for one in operands if not isinstance(one, Filled)]
        filled = [one for one in operands if isinstance(one, Filled)]
        shapes = [self._tensor(one, first).shape for one in whole]
        if filled and (
            not shapes
            or broadcast(shapes) != broadcast([*shapes, *(one.like.shape for one in filled)])
        ):
            operands = [self._solid(one) if isinstance(one, Filled) else one for one in operands]
        tensors = [self._tensor(_scalar(one), first) for one in operands]
        rank = max(one.rank for one in tensors)
        orders = [one.order for one in tensors if one.rank == rank]
        order = next((one for one in orders if one != identity(rank)), identity(rank))
        inputs = [self._aligned(one, order) for one in tensors]
        (output,) = self.write(kind, inputs, dtype=dtype or first)
        return Tensor(output, broadcast([one.shape for one in tensors]), order)

    def _aligned(self, tensor: Tensor, order: Axes) -> Value:
        """A value that broadcasts against one of this order."""
        rank, own = len(order), tensor.rank
        if all(extent == 1 for extent in tensor.shape) and own < rank:
            return self._viewed(self._plain(tensor), tensor.in_memory, ())
        shape: tuple[Dim, ...] = (1,) * (rank - own) + tensor.shape
        if moves_only_ones(
            shape, (*range(rank - own), *(a + rank - own for a in tensor.order)), order
        ):
            after = [shape[axis] for axis in order]
            while len(after) > 1 and after[0] == 1 and own < rank:
                del after[0]
            return self._viewed(self._plain(tensor), tensor.in_memory, tuple(after))
        if own < rank:
            tensor = self.Reshape(tensor=tensor, shape=list(_known(shape)))
        return self.in_order(tensor, order)

    # Values.

    def write(
        self,
        kind: str,
        inputs: Sequence[Value | None],
        *,
        dtype: str = "float32",
        count: int = 1,
        **attributes: Any,
    ) -> list[Value]:
        """Adds an operation of ONNX's own; its outputs."""
        operation = Operation(kind, list(inputs), attributes)
        for value in inputs:
            if value is not None:
                value.uses += 1
        operation.outputs = [Value(dtype, operation=operation) for _ in range(count)]
        self.operations.append(operation)
        return operation.outputs

    def _tensor(self, value: Any, dtype: str = "float32") -> Tensor:
        """What may be an output, or numbers."""
        if isinstance(value, Tensor):
            return value
        if isinstance(value, Filled):
            return self._solid(value)
        array: npt.NDArray[Any] = np.array(value, dtype)
        return Tensor(self._constant(array), array.shape, identity(array.ndim))

    def _solid(self, tensor: Tensor | Filled) -> Tensor:
        """A tensor of its shape."""
        if isinstance(tensor, Tensor):
            return tensor
        like = tensor.like
        extents = like.in_memory
        if all(isinstance(extent, int) for extent in extents):
            array = np.full(_known(extents), tensor.number, np.float32)
            return Tensor(self._constant(array), like.shape, like.order)
        (shape,) = self.write("Shape", [self._plain(like)], dtype="int64")
        number = self._constant(np.float32(tensor.number))
        (output,) = self.write("Expand", [number, shape])
        return Tensor(output, like.shape, like.order)

    def _plain(self, tensor: Tensor) -> Value:
        """The value as it is in memory."""
        return self.in_order(tensor, tensor.order)

    def _rearranged(self, tensor: Tensor, order: Axes) -> Value:
        value = tensor.value
        before = value.dims if value.weight else tensor.in_memory
        after = tuple(tensor.shape[axis] for axis in order)
        if moves_only_ones(tensor.shape, tensor.order, order):
            return self._viewed(value, before, after)
        value = self._viewed(value, before, tensor.in_memory)
        perm = [tensor.order.index(axis) for axis in order]
        if value.constant is not None:
            return self._constant(np.transpose(value.constant, perm))
        (output,) = self.write("Transpose", [value], dtype=value.dtype, perm=perm)
        return output

    def _viewed(
        self,
        value: Value,
        before: Sequence[Dim],
        after: Sequence[Dim],
        wanted: Sizes | None = None,
    ) -> Value:
        """A value of the shape `before` in another: the same numbers in the same order."""
        if tuple(before) == tuple(after):
            return value
        if value.constant is not None:
            return self._constant(value.constant.reshape(_known(after)))
        if value.weight:
            if not value.uses:
                value.dims = tuple(_known(after))
            if value.dims == tuple(after):
                return value
        (output,) = self.write(
            "Reshape", [value, self._shape(before, after, wanted)], dtype=value.dtype
        )
        return output

    def _shape(self, before: Sequence[Dim], after: Sequence[Dim], wanted: Sizes | None) -> Value:
        """What Reshape is told: the one extent that is not known is what is left."""
        known = [extent if isinstance(extent, int) else -1 for extent in after]
        if known.count(-1) > 1:
            # 0: as the input has it at the same place.
            same = [
                len(before) > place and before[place] == extent
                for place, extent in enumerate(after)
            ]
            for place, extent in enumerate(after):
                if known.count(-1) > 1 and isinstance(extent, str) and same[place]:
                    known[place] = 0
        if known.count(-1) <= 1:
            return self._integers(known)
        assert wanted is not None
        return self._vector(wanted)

    def _vector(self, sizes: Sizes) -> Value:
        """Sizes as a tensor of int64."""
        if sizes.known:
            return self._integers(sizes)
        parts = []
        for one in sizes:
            if not isinstance(one, Extent):
                parts.append(self._integers([one]))
                continue
            (shape,) = self.write("Shape", [self._plain(one.tensor)], dtype="int64")
            place = self._integers([one.tensor.order.index(one.axis)])
            (part,) = self.write("Gather", [shape, place], dtype="int64", axis=0)
            if one.factor != 1:
                (part,) = self.write("Mul", [part, self._integers([one.factor])], dtype="int64")
            parts.append(part)
        return (
            parts[0] if len(parts) == 1 else self.write("Concat", parts, dtype="int64", axis=0)[0]
        )

    def _integers(self, values: Sequence[Any]) -> Value:
        return self._constant(np.array(values, np.int64))

    def _constant(self, array: npt.NDArray[Any] | np.generic) -> Value:
        array = np.asarray(array)
        key = (array.dtype.name, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = Value(array.dtype.name, array.copy(order="C"))
        return self._constants[key]


def _scalar(operand: Any) -> Any:
    """A number in place of what is filled with it."""
    return operand.number if isinstance(operand, Filled) else operand


def _known(extents: Sequence[Dim]) -> list[int]:
    """Extents that are numbers, as those of kernels are."""
    assert all(isinstance(one, int) for one in extents), extents
    return [one for one in extents if isinstance(one, int)]


def _sides(
    padding: str, explicit: Sequence[int], size: Sequence[int], dilations: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    """Rows before and after, columns before and after; `SAME` is that of a stride of 1."""
    if padding == "EXPLICIT":
        return (explicit[2], explicit[3]), (explicit[4], explicit[5])
    if padding == "VALID":
        return (0, 0), (0, 0)
    spans = [(extent - 1) * rate for extent, rate in zip(size, dilations, strict=True)]
    return tuple((span // 2, span - span // 2) for span in spans)


def _pads(sides: Sequence[Sequence[int]]) -> list[int]:
    """ONNX's order: all that is before, then all that is after."""
    return [side[0] for side in sides] + [side[1] for side in sides]


def _span(extent: Dim, begin: int, end: int | Extent, step: int) -> Dim:
    """How many places a slice has."""
    if isinstance(end, Extent):
        return divided(times(end.tensor.shape[end.axis], end.factor), step)
    if isinstance(extent, int) or end != _TO_THE_END:
        last = min(extent, end) if isinstance(extent, int) else end
        return -(-(last - begin) // step)
    return divided(windows(extent, 1, 1, (-begin, 0)), step)


def _tiled(extent: Dim, count: int | Extent) -> Dim:
    if isinstance(count, int):
        return times(extent, count)
    if extent == 1 and count.factor == 1:
        return count.tensor.shape[count.axis]
    return f"({extent}*{count.tensor.shape[count.axis]}*{count.factor})"


def _multiplied(one: int | Extent, factor: int) -> int | Extent:
    return one * factor if isinstance(one, int) else one._replace(factor=one.factor * factor)


def _reshaped(shape: Sequence[Dim], wanted: Sizes) -> tuple[Dim, ...]:
    """The extents of a tensor of `shape` as `wanted`; -1 is what is left."""
    dims: list[Dim] = [
        times(one.tensor.shape[one.axis], one.factor) if isinstance(one, Extent) else one
        for one in wanted
    ]
    if -1 not in dims:
        return tuple(dims)
    place = dims.index(-1)
    rest = dims[:place] + dims[place + 1 :]
    # Extents without a number that are on both sides are no part of what is left.
    unknown = [one for one in shape if not isinstance(one, int)]
    for one in rest:
        if not isinstance(one, int) and one in unknown:
            unknown.remove(one)
    numbers = product(rest)
    if not unknown and numbers:
        dims[place] = product(shape) // numbers
    elif len(unknown) == 1 and product(shape) == numbers:
        dims[place] = unknown[0]
    else:
        dims[place] = f"({'*'.join(map(str, shape))}/{'*'.join(map(str, rest))})"
    return tuple(dims)
