"""Sections with a memory: one frame and what they kept, to what they put out and keep.

As in `operations`, the first argument says where operations are written. Nothing here imports
TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from yolotf.darknet import cfg
from yolotf.graphs import operations

Tensor = Any
States = dict[str, Tensor]
"""By the names of `Layer.states`; [1, rows, columns, channels] each."""
Part = Callable[[str, Tensor], Tensor]
"""What the part of a name puts out for an input: bias and activation are its own."""


def step(
    ops: operations.Operations,
    layer: cfg.Recurrent,
    x: Tensor,
    states: Mapping[str, Tensor],
    part: Part,
) -> tuple[Tensor, States]:
    """What `layer` puts out for one frame, and what it keeps for the next.

    Args:
        ops: where to write it.
        layer: the section.
        x: [1, rows, columns, channels].
        states: what it has kept; zeros before the first frame.
        part: computes one of its parts.
    """
    match layer:
        case cfg.Rnn() | cfg.Crnn():
            return _simple(ops, layer, x, states, part)
        case cfg.Gru():
            return _gru(ops, x, states, part)
        case cfg.Lstm():
            return _lstm(ops, x, states, part)
        case cfg.ConvLstm():
            return _conv_lstm(ops, layer, x, states, part)
        case _:
            raise TypeError(f"[{layer.type}] is no recurrent section")


def history(ops: operations.Operations, x: Tensor, frames: int) -> Tensor:
    """`[history]` of one time step: the frame, then zeros (conv_lstm_layer.c:290).

    Args:
        ops: where to write it.
        x: [batch, rows, columns, channels].
        frames: as many as there is room for.
    """
    if frames == 1:
        return x
    # Not Pad: TensorFlow joins it with the convolution that reads it, which pads no channels.
    return ops.ConcatV2(values=[x, *[ops.ZerosLike(x=x)] * (frames - 1)], axis=-1)


def _simple(
    ops: operations.Operations,
    layer: cfg.Rnn | cfg.Crnn,
    x: Tensor,
    states: Mapping[str, Tensor],
    part: Part,
) -> tuple[Tensor, States]:
    """rnn_layer.c:104-126, crnn_layer.c:172-195."""
    before = states["state"]
    state = ops.AddV2(x=part("input", x), y=part("self", before))
    if layer.shortcut:
        state = ops.AddV2(x=state, y=before)
    return part("output", state), {"state": state}


def _gru(
    ops: operations.Operations, x: Tensor, states: Mapping[str, Tensor], part: Part
) -> tuple[Tensor, States]:
    """gru_layer.c:145-190; USET, with which the candidate would be tanh, is never defined."""
    before = states["state"]

    def gate(name: str, kept: Tensor) -> Tensor:
        total = ops.AddV2(x=part(f"input_{name}", x), y=part(f"state_{name}", kept))
        return ops.Sigmoid(x=total)

    keep, reset = gate("z", before), gate("r", before)
    candidate = gate("h", ops.Mul(x=reset, y=before))
    # keep * before + (1 - keep) * candidate
    change = ops.Mul(x=keep, y=ops.Sub(x=before, y=candidate))
    state = ops.AddV2(x=candidate, y=change)
    return state, {"state": state}


def _lstm(
    ops: operations.Operations, x: Tensor, states: Mapping[str, Tensor], part: Part
) -> tuple[Tensor, States]:
    """lstm_layer.c:203-251."""

    def gate(name: str) -> Tensor:
        return ops.AddV2(x=part(f"w{name}", states["state"]), y=part(f"u{name}", x))

    cell = _cell(ops, states["cell"], gate("f"), gate("i"), _tanh(ops, gate("g")))
    state = ops.Mul(x=ops.Sigmoid(x=gate("o")), y=_tanh(ops, cell))
    return state, {"state": state, "cell": cell}


def _conv_lstm(
    ops: operations.Operations,
    layer: cfg.ConvLstm,
    x: Tensor,
    states: Mapping[str, Tensor],
    part: Part,
) -> tuple[Tensor, States]:
    """conv_lstm_layer.c:683-757; with a bottleneck :1082-1150.

    Darknet also puts numbers of its own in the place of those that are none.
    """
    before, cell = states["state"], states["cell"]

    def bent(values: Tensor) -> Tensor:
        if layer.lstm_activation == "tanh":
            return _tanh(ops, values)
        return operations.activate(ops, values, layer.lstm_activation)

    if layer.bottleneck:
        x = bent(part("wf", ops.ConcatV2(values=[before, x], axis=-1)))

    def gate(name: str, cells: Tensor | None = None) -> Tensor:
        total = part(f"u{name}", x)
        if not layer.bottleneck:
            total = ops.AddV2(x=part(f"w{name}", before), y=total)
        if layer.peephole and cells is not None:
            total = ops.AddV2(x=total, y=part(f"v{name}", cells))
        return total

    cell = _cell(ops, cell, gate("f", cell), gate("i", cell), bent(gate("g")))
    state = ops.Mul(x=ops.Sigmoid(x=gate("o", cell)), y=bent(cell))
    if layer.state_constrain:
        most = float(layer.state_constrain)
        cell = ops.Maximum(x=ops.Minimum(x=cell, y=most), y=-most)
    y = state
    if layer.bottleneck and layer.shortcut:
        half = layer.output // 2
        first = ops.Split(axis=-1, value=x, num_split=2)[0]
        y = ops.AddV2(x=state, y=ops.Pad(input=first, paddings=[[0, 0]] * 3 + [[0, half]]))
    return y, {"state": state, "cell": cell}


def _cell(
    ops: operations.Operations, cell: Tensor, forget: Tensor, enter: Tensor, candidate: Tensor
) -> Tensor:
    kept = ops.Mul(x=ops.Sigmoid(x=forget), y=cell)
    return ops.AddV2(x=kept, y=ops.Mul(x=ops.Sigmoid(x=enter), y=candidate))


def _tanh(ops: operations.Operations, x: Tensor) -> Tensor:
    # Not Tanh: TensorFlow 2.21 joins it with a convolution and a sum before it to an operation
    # that a CPU does not have.
    doubled = ops.Sigmoid(x=ops.Mul(x=x, y=2.0))
    return ops.Sub(x=ops.Mul(x=doubled, y=2.0), y=1.0)
