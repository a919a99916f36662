"""Sections that keep rows and columns: activations, softmax, normalization, constants."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from yolotf.darknet import cfg
from yolotf.darknet.class_tree import tree_of
from yolotf.graphs.lowering import Lowering, lowers
from yolotf.graphs.operations import Operations, Tensor


@lowers(cfg.Dropout, cfg.Passive)
def _nothing(lowering: Lowering, layer: cfg.Layer, inputs: Sequence[Tensor]) -> Tensor:
    return inputs[0]


@lowers(cfg.Activation)
def _activation(lowering: Lowering, layer: cfg.Activation, inputs: Sequence[Tensor]) -> Tensor:
    return lowering.activated(layer, inputs[0])


@lowers(cfg.Softmax)
def _softmax(lowering: Lowering, layer: cfg.Softmax, inputs: Sequence[Tensor]) -> Tensor:
    if not layer.tree:
        return softmax(lowering.ops, inputs[0], layer)
    shape = layer.input_shape
    groups = tree_of(lowering.network, layer.tree, shape.floats).groups
    return tree_softmax(lowering.ops, inputs[0], shape, groups, layer.temperature)


@lowers(cfg.Normalization)
def _normalization(
    lowering: Lowering, layer: cfg.Normalization, inputs: Sequence[Tensor]
) -> Tensor:
    return normalize(
        lowering.ops,
        inputs[0],
        layer.input_shape.channels,
        size=layer.size,
        alpha=layer.alpha,
        beta=layer.beta,
        kappa=layer.kappa,
    )


@lowers(cfg.Implicit)
def _implicit(lowering: Lowering, layer: cfg.Implicit, inputs: Sequence[Tensor]) -> Tensor:
    weights = lowering.array(layer, "weights")
    return implicit(lowering.ops, weights, lowering.images, layer.filters, layer.atoms)


def softmax(ops: Operations, x: Tensor, layer: cfg.Softmax) -> Tensor:
    """Writes `[softmax]` over all values of an image, or over groups of channels."""
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
    """Writes `[softmax] tree=`: a softmax over each group of siblings (softmax_layer.c:54).

    Args:
        ops: where to write the operations.
        x: [batch, *shape].
        shape: (rows, columns, channels); Darknet orders the values channels first.
        groups: sizes of the groups.
        temperature: divisor of the values.
    """
    height, width, channels = shape
    count, longest = height * width * channels, max(groups)
    planes = ops.Transpose(x=x, perm=[0, 3, 1, 2])
    flat = ops.Reshape(tensor=planes, shape=[-1, count])
    if temperature != 1:
        flat = ops.RealDiv(x=flat, y=float(temperature))
    # A row for each group, padded with an index whose softmax is 0.
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


def normalize(
    ops: Operations, x: Tensor, channels: int, *, size: int, alpha: float, beta: float, kappa: float
) -> Tensor:
    """Writes `[normalization]`: divides by a power of the sum of neighboring channels' squares.

    Darknet's sliding window adds one square and subtracts another at each step, and starts with a
    window that is too small (normalization_layer.c:71-84). The sums are linear in the squares, so
    they are a matrix product, written as a convolution.
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


def implicit(ops: Operations, weights: Tensor, images: Tensor, filters: int, atoms: int) -> Tensor:
    """Writes `[implicit]`: a stored constant, repeated per image (representation_layer.c:58-64).

    Args:
        ops: where to write the operations.
        weights: (filters, atoms), as in the file.
        images: the images, for the batch size.
        filters: number of output channels.
        atoms: number of output rows.
    """
    constant = ops.Transpose(x=weights, perm=[1, 0])
    constant = ops.Reshape(tensor=constant, shape=[1, atoms, 1, filters])
    batch = ops.Slice(input=ops.Shape(input=images), begin=[0], size=[1])
    return ops.Tile(input=constant, multiples=ops.ConcatV2(values=[batch, [1, 1, 1]], axis=0))
