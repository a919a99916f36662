"""Darknet's layers as TensorFlow operations, channels last: their arithmetic, once for all graphs.

Each function is what one section does at inference (AlexeyAB/darknet src/). The first argument
says where the operations are written: `tf.raw_ops` for functions and Keras layers,
`yolotf.runtime.graph.Operations` for the runtime, or whatever else takes the same keyword
arguments. Numbers and lists among them become constants of the type of the other arguments, so a
tensor always comes before them.

Nothing here imports TensorFlow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from yolotf.darknet import cfg
from yolotf.darknet.sections.antialiased import Blur, sharp

Tensor = Any
Operations = Any
"""`tf.raw_ops`, or what has its functions."""

_LOWEST = float(np.finfo(np.float32).min)
_NORMALIZE_EPSILON = 0.0001  # activations.c:199, blas.c:85


def convolve(ops: Operations, x: Tensor, kernel: Tensor, layer: cfg.Convolutional) -> Tensor:
    """`[convolutional]` without bias and activation (convolutional_layer.c:1141).

    Args:
        ops: where to write it.
        x: [batch, rows, columns, channels].
        kernel: HWIO, `I` the channels of one group; for `is_depthwise` layers
            (size, size, channels, multiplier).
        layer: geometry.
    """
    padding, explicit = convolution_padding(layer)
    strides = [1, layer.stride_y, layer.stride_x, 1]
    if not is_depthwise(layer):
        return ops.Conv2D(
            input=x,
            filter=kernel,
            strides=strides,
            padding=padding,
            explicit_paddings=explicit,
            dilations=[1, layer.dilation, layer.dilation, 1],
        )
    if layer.dilation > 1:
        return _convolve_dilated(ops, x, kernel, layer)
    if explicit:
        # TensorFlow 2.21 aborts the process over DepthwiseConv2dNative with explicit padding:
        # its shape function fails a check when the graph is optimized (tensor_format.h:428).
        x, padding = _pad(ops, x, explicit[2:4], explicit[4:6]), "VALID"
    return ops.DepthwiseConv2dNative(input=x, filter=kernel, strides=strides, padding=padding)


def _convolve_dilated(
    ops: Operations, x: Tensor, kernel: Tensor, layer: cfg.Convolutional
) -> Tensor:
    """A depthwise convolution with a dilation, which a CPU only does part by part."""
    rate, side = layer.dilation, layer.padding * layer.dilation
    padded = ops.AddV2(x=_extents(ops, x), y=[2 * side, 2 * side])
    missing = ops.FloorMod(x=ops.Neg(x=padded), y=[rate, rate])
    crops = ops.Pack(values=[ops.ZerosLike(x=missing), missing], axis=1)
    parts = ops.SpaceToBatchND(
        input=x, block_shape=[rate, rate], paddings=ops.AddV2(x=crops, y=[[side, side]] * 2)
    )
    parts = ops.DepthwiseConv2dNative(
        input=parts, filter=kernel, strides=[1, 1, 1, 1], padding="VALID"
    )
    return ops.BatchToSpaceND(input=parts, block_shape=[rate, rate], crops=crops)


def convolve_in_groups(
    ops: Operations, x: Tensor, kernel: Tensor, layer: cfg.Convolutional
) -> Tensor:
    """`convolve` where `Conv2D` takes any groups, strides, dilation and padding at once.

    Args:
        ops: where to write it.
        x: [batch, rows, columns, channels].
        kernel: HWIO, `I` the channels of one group.
        layer: geometry.
    """
    padding, explicit = convolution_padding(layer)
    return ops.Conv2D(
        input=x,
        filter=kernel,
        strides=[1, layer.stride_y, layer.stride_x, 1],
        padding=padding,
        explicit_paddings=explicit,
        dilations=[1, layer.dilation, layer.dilation, 1],
    )


def signs(ops: Operations, x: Tensor) -> Tensor:
    """What an `xnor=1` convolution sees of its input: 1 above 0, else -1 (binarize_cpu)."""
    ones = ops.OnesLike(x=x)
    return ops.SelectV2(condition=ops.Greater(x=x, y=0.0), t=ones, e=ops.Neg(x=ones))


def signs_in_frame(
    ops: Operations, x: Tensor, rows: Sequence[int], columns: Sequence[int]
) -> Tensor:
    """`signs`, with -1 around them: Darknet's bits are 0 there (gemm.c:2128 and 2222).

    Args:
        ops: where to write it.
        x: [batch, rows, columns, channels].
        rows: how many before and after.
        columns: how many before and after.
    """
    x = signs(ops, x)
    if not any((*rows, *columns)):
        return x
    sides = [[0, 0], list(rows), list(columns), [0, 0]]
    return ops.PadV2(input=x, paddings=sides, constant_values=-1.0)


def binarize(ops: Operations, kernel: Tensor, rank: int = 4) -> Tensor:
    """An `xnor=1` kernel: of each filter the mean size, positive above 0, else negative.

    convolutional_layer.c:40, binarize_weights.

    Args:
        ops: where to write it.
        kernel: HWIO, or blocks of that.
        rank: 5 in blocks.
    """
    axes = list(range(rank - 4, rank - 1))
    sizes = ops.Mean(input=ops.Abs(x=kernel), axis=axes, keep_dims=True)
    return ops.Mul(x=signs(ops, kernel), y=sizes)


def unflip(
    ops: Operations,
    kernel: Tensor,
    scale: Tensor | None,
    layer: cfg.Convolutional,
    *,
    depthwise: bool,
) -> Tensor:
    """A `flipped=1` kernel as convolutions take it.

    Args:
        ops: where to write it.
        kernel: (channels of a group, size, size, filters), as in the file.
        scale: what a batch normalization multiplies the filters by.
        layer: whose kernel it is.
        depthwise: whether it becomes (size, size, channels, multiplier), see `convolve`.
    """
    kernel = ops.Transpose(x=kernel, perm=[1, 2, 0, 3])
    if scale is not None:
        kernel = ops.Mul(x=kernel, y=scale)
    if not depthwise:
        return kernel
    channels = layer.input_shape.channels
    shape = [layer.size, layer.size, channels, layer.filters // channels]
    return ops.Reshape(tensor=kernel, shape=shape)


def convolution_padding(layer: cfg.Convolutional) -> tuple[str, list[int]]:
    """TensorFlow's `padding` and `explicit_paddings` (of batch, rows, columns, channels).

    None for `xnor=1`, whose frame is part of its input.
    """
    sides = layer.padding * layer.dilation
    below, right = layer.overhang
    if layer.xnor:
        return "VALID", []
    if below or right:
        return "EXPLICIT", [0, 0, sides, sides + below, sides, sides + right, 0, 0]
    if not sides:
        return "VALID", []
    if layer.stride_y == layer.stride_x == 1 and 2 * layer.padding == layer.size - 1:
        return "SAME", []  # both sides alike, as size is odd
    return "EXPLICIT", [0, 0, sides, sides, sides, sides, 0, 0]


def is_depthwise(layer: cfg.Convolutional) -> bool:
    """Whether TensorFlow's depthwise kernels can do what `layer` does.

    They have one stride for rows and columns, and no dilation with it.
    """
    layer = sharp(layer)
    return (
        layer.groups == layer.input_shape.channels > 1
        and layer.stride_y == layer.stride_x
        and 1 in (layer.stride_y, layer.dilation)
    )


def connect(ops: Operations, x: Tensor, kernel: Tensor, layer: cfg.Connected) -> Tensor:
    """`[connected]` without bias: [batch, outputs] (connected_layer.c:151).

    Darknet's order of inputs is channels, rows, columns.
    """
    flat = ops.Transpose(x=x, perm=[0, 3, 1, 2])
    flat = ops.Reshape(tensor=flat, shape=[-1, layer.input_shape.floats])
    return ops.MatMul(a=flat, b=kernel)


def convolve_locally(
    ops: Operations,
    x: Tensor,
    kernel: Tensor,
    output_shape: Sequence[int],
    *,
    channels: int,
    size: int,
    stride: int,
    padding: Sequence[Sequence[int]],
) -> Tensor:
    """`[local]` without bias: a kernel for every position (local_layer.c:95).

    Args:
        ops: where to write it.
        x: [batch, rows, columns, channels].
        kernel: (positions, size, size, channels, filters).
        output_shape: rows, columns, filters.
        channels: of `x`.
        size: of the window.
        stride: of the window.
        padding: zeros around `x`: rows before and after, columns before and after.
    """
    rows, columns, filters = output_shape
    patches = ops.ExtractImagePatches(
        images=_pad(ops, x, *padding),
        ksizes=[1, size, size, 1],
        strides=[1, stride, stride, 1],
        rates=[1, 1, 1, 1],
        padding="VALID",
    )
    # [batch, positions, 1, floats of a window] times [positions, floats of a window, filters].
    positions = rows * columns
    depth = size**2 * channels
    patches = ops.Reshape(tensor=patches, shape=[-1, positions, 1, depth])
    weights = ops.Reshape(tensor=kernel, shape=[positions, depth, filters])
    outputs = ops.BatchMatMulV2(x=patches, y=weights)
    return ops.Reshape(tensor=outputs, shape=[-1, rows, columns, filters])


def pool(ops: Operations, x: Tensor, layer: cfg.Pool) -> Tensor:
    """`[maxpool]` and `[local_avgpool]` (maxpool_layer.c:286 and 355).

    The smaller half of the padding comes first; what lies outside takes no part.
    """
    if layer.maxpool_depth:
        return pool_channels(ops, x, layer.input_shape.channels, layer.out_channels)
    strides = [layer.stride_y, layer.stride_x]
    before = layer.padding // 2
    after = layer.padding - before
    below, right = layer.overhang
    padding: Any = [[before, after + below], [before, after + right]]
    if not (below or right):
        if not layer.padding:
            padding = "VALID"
        elif layer.padding == layer.size - 1 and (
            strides == [1, 1] or strides == [2, 2] == [layer.size] * 2
        ):
            padding = "SAME"
    return pool_window(ops, x, layer.type == "maxpool", layer.size, strides, padding)


def pool_window(
    ops: Operations,
    x: Tensor,
    largest: bool,
    size: int,
    strides: Sequence[int],
    padding: str | Sequence[Sequence[int]],
) -> Tensor:
    """The largest, or else the mean, of what of a window lies inside of the picture.

    Args:
        ops: where to write it.
        x: [batch, rows, columns, channels].
        largest: a maximum, not a mean.
        size: of the window.
        strides: rows, columns.
        padding: `SAME`, `VALID`, or rows before and after, columns before and after.
    """
    window: dict[str, Any] = {"ksize": [1, size, size, 1], "strides": [1, *strides, 1]}
    if isinstance(padding, str):  # `same` does not count what is outside of a mean either
        if largest:
            return ops.MaxPool(input=x, padding=padding, **window)
        return ops.AvgPool(value=x, padding=padding, **window)
    if largest and max(map(max, padding)) >= size:
        # TensorFlow's pooling has no padding as wide as its window. -FLT_MAX, as in Darknet.
        sides = [[0, 0], *map(list, padding), [0, 0]]
        lowest = getattr(x.dtype, "min", _LOWEST)
        x = ops.PadV2(input=x, paddings=sides, constant_values=lowest)
        return ops.MaxPool(input=x, padding="VALID", **window)
    if largest:
        explicit = [0, 0, *padding[0], *padding[1], 0, 0]
        return ops.MaxPool(input=x, padding="EXPLICIT", explicit_paddings=explicit, **window)

    def mean(values: Tensor) -> Tensor:
        return ops.AvgPool(value=_pad(ops, values, *padding), padding="VALID", **window)

    inside = ops.OnesLike(x=_slice(ops, x, [0, 0, 0, 0], [1, 0, 0, 1], ends_at=(0, 3)))
    return ops.RealDiv(x=mean(x), y=mean(inside))


def pool_channels(ops: Operations, x: Tensor, channels: int, filters: int) -> Tensor:
    """`maxpool_depth`: the largest of channels i, i + filters, ... (maxpool_layer.c:242)."""
    whole, left = divmod(channels, filters)
    if not left:
        parts = _split(ops, x, whole) if whole > 1 else [x]
    else:
        parts = ops.SplitV(
            value=x, size_splits=[filters] * whole + [left], axis=-1, num_split=whole + 1
        )
    largest = parts[0]
    for part in parts[1:whole]:
        largest = ops.Maximum(x=largest, y=part)
    if left:
        head, tail = ops.SplitV(
            value=largest, size_splits=[left, filters - left], axis=-1, num_split=2
        )
        largest = ops.ConcatV2(values=[ops.Maximum(x=head, y=parts[-1]), tail], axis=-1)
    return largest


def blur(ops: Operations, x: Tensor, blur: Blur, channels: int) -> Tensor:
    """What follows a section with `antialiasing`: a fixed kernel over each channel.

    Args:
        ops: where to write it.
        x: [batch, rows, columns, channels].
        blur: the kernel and its steps.
        channels: of `x`.
    """
    kernel = [[[[weight]] * channels for weight in row] for row in blur.kernel]
    even = blur.stride_y == blur.stride_x
    x = ops.DepthwiseConv2dNative(
        input=_pad(ops, x, *blur.padding),
        filter=kernel,
        strides=[1, blur.stride_y, blur.stride_x, 1] if even else [1, 1, 1, 1],
        padding="VALID",
    )
    if even:
        return x
    steps = [1, blur.stride_y, blur.stride_x, 1]
    return _slice(ops, x, [0, 0, 0, 0], [0, 0, 0, 0], ends_at=(), steps=steps)


def average(ops: Operations, x: Tensor) -> Tensor:
    """`[avgpool]`: [batch, 1, 1, channels]."""
    return ops.Mean(input=x, axis=[1, 2], keep_dims=True)


def route(
    ops: Operations, inputs: Sequence[Tensor], channels: Sequence[int], layer: cfg.Route
) -> Tensor:
    """`[route]`: joins channels, of each input the part `group_id` (route_layer.c:92).

    Args:
        ops: where to write it.
        inputs: [batch, rows, columns, channels] each.
        channels: how many each has.
        layer: which part of how many.
    """
    if layer.groups > 1:
        # Not a split, which copies the other parts, too.
        sizes = [count // layer.groups for count in channels]
        inputs = [
            ops.Slice(input=x, begin=[0, 0, 0, layer.group_id * size], size=[-1, -1, -1, size])
            for x, size in zip(inputs, sizes, strict=True)
        ]
    return inputs[0] if len(inputs) == 1 else ops.ConcatV2(values=list(inputs), axis=-1)


def shortcut(
    ops: Operations,
    inputs: Sequence[Tensor],
    shapes: Sequence[cfg.Shape],
    factors: Tensor | None,
    factor_columns: int = 0,
) -> Tensor:
    """`[shortcut]` without activation (blas.c:78-129).

    Of other inputs only the channels both have are added, and of larger ones only every n-th
    row and column, as in the Darknet that had no weights (shortcut_cpu, blas.c:190).

    Args:
        ops: where to write it.
        inputs: the first gives the shape.
        shapes: theirs, by the cfg.
        factors: one row an input, see `shortcut_factors`.
        factor_columns: of a row: one, or one a channel.
    """
    first, target = inputs[0], shapes[0]
    rows = []
    if factors is not None:
        rows = ops.Unpack(value=factors, num=len(inputs), axis=0)
    outputs = first if factors is None else ops.Mul(x=first, y=rows[0])
    for number, (other, shape) in enumerate(zip(inputs[1:], shapes[1:], strict=True), 1):
        if shape[:2] != target[:2]:
            steps = [1, shape.height // target.height, shape.width // target.width, 1]
            ends = ops.Mul(x=ops.Shape(input=first), y=steps)
            other = _slice(ops, other, [0, 0, 0, 0], ends, ends_at=(1, 2), steps=steps)
        common = min(shape.channels, target.channels)
        if shape.channels > common:
            other = _slice(ops, other, [0, 0, 0, 0], [0, 0, 0, common], ends_at=(3,))
        if factors is not None:
            factor = rows[number]
            if 1 < factor_columns != common:
                factor = ops.Slice(input=factor, begin=[0], size=[common])
            other = ops.Mul(x=other, y=factor)
        if target.channels > common:
            sides = [[0, 0]] * 3 + [[0, target.channels - common]]
            other = ops.Pad(input=other, paddings=sides)
        outputs = ops.AddV2(x=outputs, y=other)
    return outputs


def shortcut_factors(ops: Operations, weights: Tensor, normalization: str) -> Tensor:
    """The factors that stored `weights` (one row an input) stand for (blas.c:85-107)."""
    if normalization == "relu":
        factors = ops.Relu(features=weights)
    elif normalization == "softmax":
        largest = ops.Max(input=weights, axis=[0], keep_dims=True)
        factors = ops.Exp(x=ops.Sub(x=weights, y=largest))
    else:
        return weights
    return _share(ops, factors, 0)


def upsample(ops: Operations, x: Tensor, layer: cfg.Upsample, *, resizable: bool) -> Tensor:
    """`[upsample]`: nearest neighbor; a negative stride sums down (blas.c:483).

    Args:
        ops: where to write it.
        x: [batch, rows, columns, channels].
        layer: stride and scale.
        resizable: rows and columns may be others than the cfg says.
    """
    stride = layer.stride
    if layer.reverse:
        window = [1, stride, stride, 1]
        x = ops.AvgPool(value=x, ksize=window, strides=window, padding="VALID")
        return ops.Mul(x=x, y=layer.scale * stride**2)
    if stride > 1:
        size: Any = list(layer.output_shape[:2])
        if resizable:
            size = ops.Mul(x=_extents(ops, x), y=[stride, stride])
        x = ops.ResizeNearestNeighbor(images=x, size=size, half_pixel_centers=True)
    return x if layer.scale == 1 else ops.Mul(x=x, y=layer.scale)


def reorg(ops: Operations, x: Tensor, layer: cfg.Reorg) -> Tensor:
    """`[reorg]`, Darknet's own shuffle (blas.c:9-37), and `[reorg3d]`.

    `[reorg]` is not space-to-depth: Darknet calls it with the input's shape where it expects
    the output's (reorg_old_layer.c:81); `[reorg3d]` with reverse does the opposite
    (reorg_layer.c:82).
    """
    if layer.type == "reorg3d" and not layer.reverse:
        return ops.SpaceToDepth(input=x, block_size=layer.stride)
    view = layer.output_shape if layer.type == "reorg3d" else layer.input_shape
    return shuffle(ops, x, layer.stride, bool(layer.reverse), view, layer.output_shape)


def shuffle(
    ops: Operations,
    x: Tensor,
    stride: int,
    reverse: bool,
    view: Sequence[int],
    output_shape: Sequence[int],
) -> Tensor:
    """The shuffle of rows, columns and channels that `[reorg]` is (blas.c:9-37).

    Args:
        ops: where to write it.
        x: [batch, rows, columns, channels].
        stride: of the section.
        reverse: of the section.
        view: rows, columns, channels that the shuffle is done in.
        output_shape: rows, columns, channels.
    """
    height, width, channels = view
    depth = channels // stride**2
    flat = ops.Transpose(x=x, perm=[0, 3, 1, 2])
    if reverse:
        parts = ops.Reshape(tensor=flat, shape=[-1, stride, stride, depth, height, width])
        shuffled = ops.Transpose(x=parts, perm=[0, 3, 4, 1, 5, 2])
    else:
        parts = ops.Reshape(tensor=flat, shape=[-1, depth, height, stride, width, stride])
        shuffled = ops.Transpose(x=parts, perm=[0, 3, 5, 1, 2, 4])
    rows, columns, filters = output_shape
    planes = ops.Reshape(tensor=shuffled, shape=[-1, filters, rows, columns])
    return ops.Transpose(x=planes, perm=[0, 2, 3, 1])


def softmax(ops: Operations, x: Tensor, layer: cfg.Softmax) -> Tensor:
    """`[softmax]` over all numbers of a picture, or of a group of channels."""
    height, width, channels = layer.input_shape
    if layer.temperature != 1:
        x = ops.RealDiv(x=x, y=float(layer.temperature))
    groups, part = layer.groups, channels // layer.groups
    parts = ops.Reshape(tensor=x, shape=[-1, height * width, groups, part])
    parts = ops.Transpose(x=parts, perm=[0, 2, 1, 3])
    flat = ops.Reshape(tensor=parts, shape=[-1, height * width * part])
    parts = ops.Reshape(tensor=ops.Softmax(logits=flat), shape=[-1, groups, height * width, part])
    parts = ops.Transpose(x=parts, perm=[0, 2, 1, 3])
    return ops.Reshape(tensor=parts, shape=[-1, height, width, channels])


def tree_softmax(
    ops: Operations,
    x: Tensor,
    shape: Sequence[int],
    groups: Sequence[int],
    temperature: float = 1.0,
) -> Tensor:
    """`[softmax] tree=`: one over each run of classes with one parent (softmax_layer.c:54).

    Args:
        ops: where to write.
        x: [batch, *shape].
        shape: (rows, columns, channels), whose numbers Darknet has channels first.
        groups: how long the runs are.
        temperature: what the numbers are divided by.
    """
    height, width, channels = shape
    count, longest = height * width * channels, max(groups)
    planes = ops.Transpose(x=x, perm=[0, 3, 1, 2])
    flat = ops.Reshape(tensor=planes, shape=[-1, count])
    if temperature != 1:
        flat = ops.RealDiv(x=flat, y=float(temperature))
    # One row a run, filled up with what has no share.
    wide = np.full([len(groups), longest], count)
    wide[np.arange(longest) < np.reshape(groups, [-1, 1])] = np.arange(count)
    flat = ops.PadV2(input=flat, paddings=[[0, 0], [0, 1]], constant_values=-math.inf)
    rows = ops.GatherV2(params=flat, indices=wide.ravel().tolist(), axis=1)
    shares = ops.Softmax(logits=ops.Reshape(tensor=rows, shape=[-1, longest]))
    rows = ops.Reshape(tensor=shares, shape=[-1, len(groups) * longest])
    back = np.flatnonzero(wide.ravel() < count).tolist()
    flat = ops.GatherV2(params=rows, indices=back, axis=1)
    planes = ops.Reshape(tensor=flat, shape=[-1, channels, height, width])
    return ops.Transpose(x=planes, perm=[0, 2, 3, 1])


def crop(ops: Operations, x: Tensor, layer: cfg.Crop) -> Tensor:
    """`[crop]`: the middle part; 0..1 becomes -1..1 unless `noadjust` (crop_layer.c:76)."""
    height, width, _ = layer.output_shape
    top = (layer.input_shape.height - height) // 2
    left = (layer.input_shape.width - width) // 2
    x = _slice(ops, x, [0, top, left, 0], [0, top + height, left + width, 0], ends_at=(1, 2))
    return x if layer.noadjust else ops.Sub(x=ops.Mul(x=x, y=2.0), y=1.0)


def normalize(
    ops: Operations, x: Tensor, channels: int, *, size: int, alpha: float, beta: float, kappa: float
) -> Tensor:
    """`[normalization]`: divides by a power of the neighboring channels' squares.

    Darknet moves its window over the channels by adding one square and taking one away, and
    starts with a window that is too small (normalization_layer.c:71-84). What it sums is
    linear in the squares, so it is one matrix, and that a convolution.
    """
    column = [1.0 if channel < size // 2 else 0.0 for channel in range(channels)]
    columns = [column]
    for channel in range(1, channels):
        column = list(column)
        leaving, entering = channel - (size - 1) // 2 - 1, channel + size // 2
        if leaving >= 0:
            column[leaving] -= 1.0
        if entering < channels:
            column[entering] += 1.0
        columns.append(column)
    window = [list(row) for row in zip(*columns, strict=True)]
    sums = ops.Conv2D(
        input=ops.Square(x=x), filter=[[window]], strides=[1, 1, 1, 1], padding="VALID"
    )
    norms = ops.AddV2(x=ops.Mul(x=sums, y=float(alpha)), y=float(kappa))
    return ops.Mul(x=x, y=ops.Pow(x=norms, y=-float(beta)))


def implicit(
    ops: Operations, weights: Tensor, pictures: Tensor, filters: int, atoms: int
) -> Tensor:
    """`[implicit]`: a stored constant, one copy a picture (representation_layer.c:58-64).

    Args:
        ops: where to write it.
        weights: (filters, atoms), as in the file.
        pictures: tells how many there are.
        filters: channels put out.
        atoms: rows put out.
    """
    one = ops.Transpose(x=weights, perm=[1, 0])
    one = ops.Reshape(tensor=one, shape=[1, atoms, 1, filters])
    batch = ops.Slice(input=ops.Shape(input=pictures), begin=[0], size=[1])
    return ops.Tile(input=one, multiples=ops.ConcatV2(values=[batch, [1, 1, 1]], axis=0))


def fit(
    ops: Operations,
    images: Tensor,
    inner: Tensor | Sequence[int],
    sides: Tensor | None = None,
    *,
    integers: bool,
) -> Tensor:
    """Resizes pictures to the network's input as Darknet does (image.c:1006 and 1399).

    Bilinear, the corners of picture and input on each other.

    Args:
        ops: where to write it.
        images: [batch, height, width, channels], uint8, or float32 in 0..1.
        inner: (height, width) that the pictures get.
        sides: [4, 2]: what of 0.5 is added around them, for letter boxes.
        integers: whether they are uint8.

    Returns:
        [batch, rows, columns, channels] float32 in 0..1.
    """
    values = ops.ResizeBilinear(images=images, size=inner, align_corners=True)
    if integers:
        values = ops.RealDiv(x=values, y=255.0)
    return values if sides is None else ops.PadV2(input=values, paddings=sides, constant_values=0.5)


def letter_box_size(picture: Sequence[int], size: Sequence[int]) -> tuple[int, int]:
    """(height, width) of the picture inside the letter box (image.c:1006).

    The longer side, measured against the input, fills it; the other is rounded down, but never
    to nothing.

    Args:
        picture: its height and width.
        size: those of the network's input.
    """
    (height, width), (rows, columns) = picture, size
    # In float32, as Darknet compares them.
    if np.float32(columns) / np.float32(width) < np.float32(rows) / np.float32(height):
        return max(1, height * columns // width), columns
    return rows, max(1, width * rows // height)


def add_bias(ops: Operations, x: Tensor, bias: Tensor, *, groups: int = 1) -> Tensor:
    """The bias behind a convolution or matrix product; TensorFlow's optimizer joins the two.

    What it makes of `Conv2D` and `BiasAdd` is Eigen's where oneDNN is off, and knows no groups
    (TensorFlow 2.16 to 2.21: "Fused conv implementation does not support grouped convolutions").
    It leaves `AddV2` alone there; where oneDNN is on it takes it for the bias that it is, and
    oneDNN's operation has groups.

    Args:
        ops: where to write it.
        x: channels last.
        bias: (channels,).
        groups: of the `Conv2D` that `x` comes from.
    """
    return ops.BiasAdd(value=x, bias=bias) if groups == 1 else ops.AddV2(x=x, y=bias)


def activate_fused(ops: Operations, x: Tensor, activation: str) -> Tensor:
    """`activate` straight behind `add_bias`, in the words that TensorFlow fuses with it."""
    if activation == "leaky":
        return ops.LeakyRelu(features=x, alpha=LEAKY)
    return activate(ops, x, activation)


def activate(ops: Operations, x: Tensor, activation: str) -> Tensor:
    """Any of `cfg.ACTIVATIONS`; channels last (activations.h:41-84, activations.c:160-260).

    `relu6` is Darknet's GPU code, its CPU code has none and answers 0.
    """
    return _FORMULAS[activation](ops, x)


LEAKY = 0.1

ACROSS_CHANNELS = frozenset(
    {"normalize_channels", "normalize_channels_softmax", "normalize_channels_softmax_maxval"}
)
"""Activations that look at all channels of a position at once."""


def _leaky(ops: Operations, x: Tensor) -> Tensor:
    # Not LeakyRelu: TensorFlow 2.21 fuses convolution, bias, sum and LeakyRelu into one
    # operation that forgets the slope and takes 0.2.
    return ops.Maximum(x=x, y=ops.Mul(x=x, y=LEAKY))


def _mish(ops: Operations, x: Tensor) -> Tensor:
    # In this form TensorFlow fuses it with the convolution: oneDNN has a mish of its own.
    return ops.Mul(x=x, y=ops.Tanh(x=ops.Softplus(features=x)))


def _gelu(ops: Operations, x: Tensor) -> Tensor:
    cube = ops.Mul(x=ops.Square(x=x), y=x)
    inner = ops.AddV2(x=ops.Mul(x=x, y=0.797885), y=ops.Mul(x=cube, y=0.035677))
    return ops.Mul(x=ops.Mul(x=x, y=0.5), y=ops.AddV2(x=ops.Tanh(x=inner), y=1.0))


def _where(ops: Operations, condition: Tensor, then: Tensor, otherwise: Tensor) -> Tensor:
    return ops.SelectV2(condition=condition, t=then, e=otherwise)


def _above(ops: Operations, x: Tensor, bound: float) -> Tensor:
    return ops.Greater(x=x, y=bound)


def _below(ops: Operations, x: Tensor, bound: float) -> Tensor:
    return ops.Less(x=x, y=bound)


def _hard_mish(ops: Operations, x: Tensor) -> Tensor:
    curve = ops.AddV2(x=ops.Mul(x=ops.Square(x=x), y=0.5), y=x)
    lower = _where(ops, _above(ops, x, -2.0), curve, ops.ZerosLike(x=x))
    return _where(ops, _above(ops, x, 0.0), x, lower)


def _lhtan(ops: Operations, x: Tensor) -> Tensor:
    upper = ops.AddV2(x=ops.Mul(x=ops.Sub(x=x, y=1.0), y=0.001), y=1.0)
    middle = _where(ops, _above(ops, x, 1.0), upper, x)
    return _where(ops, _below(ops, x, 0.0), ops.Mul(x=x, y=0.001), middle)


def _plse(ops: Operations, x: Tensor) -> Tensor:
    upper = ops.AddV2(x=ops.Mul(x=ops.Sub(x=x, y=4.0), y=0.01), y=1.0)
    middle = ops.AddV2(x=ops.Mul(x=x, y=0.125), y=0.5)
    lower = ops.Mul(x=ops.AddV2(x=x, y=4.0), y=0.01)
    middle = _where(ops, _above(ops, x, 4.0), upper, middle)
    return _where(ops, _below(ops, x, -4.0), lower, middle)


def _selu(ops: Operations, x: Tensor) -> Tensor:
    lower = ops.Mul(x=ops.Expm1(x=ops.Minimum(x=x, y=0.0)), y=1.6732)
    chosen = _where(ops, ops.GreaterEqual(x=x, y=0.0), x, lower)
    return ops.Mul(x=chosen, y=1.0507)


def _stair(ops: Operations, x: Tensor) -> Tensor:
    floor, steps = ops.Floor(x=x), ops.Floor(x=ops.Mul(x=x, y=0.5))
    even = ops.Equal(x=ops.FloorMod(x=floor, y=2.0), y=0.0)
    return _where(ops, even, steps, ops.AddV2(x=ops.Sub(x=x, y=floor), y=steps))


def _share(ops: Operations, positive: Tensor, axis: int) -> Tensor:
    total = ops.Sum(input=positive, axis=[axis], keep_dims=True)
    return ops.RealDiv(x=positive, y=ops.AddV2(x=total, y=_NORMALIZE_EPSILON))


def _largest_off(ops: Operations, x: Tensor) -> Tensor:
    return ops.Sub(x=x, y=ops.Max(input=x, axis=[-1], keep_dims=True))


def _loggy(ops: Operations, x: Tensor) -> Tensor:
    return ops.Sub(x=ops.Mul(x=ops.Sigmoid(x=x), y=2.0), y=1.0)


_FORMULAS: dict[str, Callable[[Operations, Tensor], Tensor]] = {
    "elu": lambda ops, x: ops.Elu(features=x),
    "gelu": _gelu,
    "hard_mish": _hard_mish,
    "hardtan": lambda ops, x: ops.Maximum(x=ops.Minimum(x=x, y=1.0), y=-1.0),
    "leaky": _leaky,
    "lhtan": _lhtan,
    "linear": lambda ops, x: x,
    "loggy": _loggy,
    "logistic": lambda ops, x: ops.Sigmoid(x=x),
    "mish": _mish,
    "normalize_channels": lambda ops, x: _share(ops, ops.Relu(features=x), -1),
    "normalize_channels_softmax": lambda ops, x: _share(ops, ops.Exp(x=x), -1),
    "normalize_channels_softmax_maxval": lambda ops, x: _share(
        ops, ops.Exp(x=_largest_off(ops, x)), -1
    ),
    "plse": _plse,
    "ramp": lambda ops, x: ops.AddV2(x=ops.Relu(features=x), y=ops.Mul(x=x, y=0.1)),
    "relie": lambda ops, x: ops.Maximum(x=x, y=ops.Mul(x=x, y=0.01)),
    "relu": lambda ops, x: ops.Relu(features=x),
    "relu6": lambda ops, x: ops.Relu6(features=x),
    "revleaky": _leaky,
    "selu": _selu,
    "stair": _stair,
    "swish": lambda ops, x: ops.Mul(x=x, y=ops.Sigmoid(x=x)),
    "tanh": lambda ops, x: ops.Tanh(x=x),
}


def _pad(ops: Operations, x: Tensor, rows: Sequence[int], columns: Sequence[int]) -> Tensor:
    if not any((*rows, *columns)):
        return x
    return ops.Pad(input=x, paddings=[[0, 0], list(rows), list(columns), [0, 0]])


def _split(ops: Operations, x: Tensor, parts: int) -> Sequence[Tensor]:
    """Equal parts of the channels."""
    found: Sequence[Tensor] = ops.Split(axis=-1, value=x, num_split=parts)
    return found


def _extents(ops: Operations, x: Tensor) -> Tensor:
    """[2]: rows and columns."""
    return ops.Slice(input=ops.Shape(input=x), begin=[1], size=[2])


def _slice(
    ops: Operations,
    x: Tensor,
    begin: Sequence[int],
    end: Tensor | Sequence[int],
    *,
    ends_at: Sequence[int],
    steps: Sequence[int] = (1, 1, 1, 1),
) -> Tensor:
    """`x[begin:end:steps]` of four axes; axes not in `ends_at` go to their end."""
    open_axes = sum(1 << axis for axis in range(4) if axis not in ends_at)
    return ops.StridedSlice(
        input=x, begin=list(begin), end=end, strides=list(steps), end_mask=open_axes
    )
