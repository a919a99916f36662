"""Recurrent sections: a frame and the state, to the output and the next state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from yolotf.darknet import cfg
from yolotf.graphs import activations
from yolotf.graphs.lowering import Lowering, key_of, lowers
from yolotf.graphs.operations import Operations, Tensor
from yolotf.graphs.sections.convolutional import convolved
from yolotf.graphs.sections.dense import connected

States = dict[str, Tensor]
"""By the names of `Layer.states`; [1, rows, columns, channels] each."""
Part = Callable[[str, Tensor], Tensor]
"""Computes a named part of a section, including its bias and activation."""


@lowers(cfg.Rnn, cfg.Crnn, cfg.Gru, cfg.Lstm, cfg.ConvLstm)
def _recurrent(lowering: Lowering, layer: cfg.Recurrent, inputs: Sequence[Tensor]) -> Tensor:
    """Computes one frame; its state is written to `lowering.kept`."""

    def part(name: str, x: Tensor) -> Tensor:
        kernel = lowering.array(layer, "kernel", name)
        bias = lowering.array(layer, "bias", name)
        sublayer = layer.parts[name]
        if isinstance(sublayer, cfg.Convolutional):
            return convolved(lowering, x, kernel, bias, sublayer)
        assert isinstance(sublayer, cfg.Connected)
        return connected(lowering.ops, x, kernel, bias, sublayer)

    keys = {name: key_of(layer.index, name) for name in layer.states}
    before = {name: lowering.states[key] for name, key in keys.items()}
    output, after = step(lowering.ops, layer, inputs[0], before, part)
    lowering.kept |= {key: after[name] for name, key in keys.items()}
    return output


@lowers(cfg.History)
def _history(lowering: Lowering, layer: cfg.History, inputs: Sequence[Tensor]) -> Tensor:
    return history(lowering.ops, inputs[0], layer.history_size)


def step(
    ops: Operations,
    layer: cfg.Recurrent,
    x: Tensor,
    states: Mapping[str, Tensor],
    part: Part,
) -> tuple[Tensor, States]:
    """Returns the output of `layer` for one frame, and the state for the next.

    Args:
        ops: where to write the operations.
        layer: the section.
        x: [1, rows, columns, channels].
        states: the state; zeros before the first frame.
        part: computes a part of the section.
    """
    return _STEPS[type(layer)](ops, layer, x, states, part)


def history(ops: Operations, x: Tensor, frames: int) -> Tensor:
    """Writes `[history]` for one time step: the frame, then zeros (conv_lstm_layer.c:290).

    Args:
        ops: where to write the operations.
        x: [batch, rows, columns, channels].
        frames: capacity of the history.
    """
    if frames == 1:
        return x
    # Not Pad: TensorFlow fuses it with the following convolution, which cannot pad channels.
    return ops.ConcatV2(values=[x, *[ops.ZerosLike(x=x)] * (frames - 1)], axis=-1)


def _simple(
    ops: Operations,
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
    ops: Operations, layer: cfg.Gru, x: Tensor, states: Mapping[str, Tensor], part: Part
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
    ops: Operations, layer: cfg.Lstm, x: Tensor, states: Mapping[str, Tensor], part: Part
) -> tuple[Tensor, States]:
    """lstm_layer.c:203-251."""

    def gate(name: str) -> Tensor:
        return ops.AddV2(x=part(f"w{name}", states["state"]), y=part(f"u{name}", x))

    cell = _cell(ops, states["cell"], gate("f"), gate("i"), _tanh(ops, gate("g")))
    state = ops.Mul(x=ops.Sigmoid(x=gate("o")), y=_tanh(ops, cell))
    return state, {"state": state, "cell": cell}


def _conv_lstm(
    ops: Operations,
    layer: cfg.ConvLstm,
    x: Tensor,
    states: Mapping[str, Tensor],
    part: Part,
) -> tuple[Tensor, States]:
    """conv_lstm_layer.c:683-757; with a bottleneck :1082-1150.

    Darknet also replaces invalid values.
    """
    before, cell = states["state"], states["cell"]

    def activated(values: Tensor) -> Tensor:
        if layer.lstm_activation == "tanh":
            return _tanh(ops, values)
        return activations.activate(ops, values, layer.lstm_activation)

    if layer.bottleneck:
        x = activated(part("wf", ops.ConcatV2(values=[before, x], axis=-1)))

    def gate(name: str, cells: Tensor | None = None) -> Tensor:
        total = part(f"u{name}", x)
        if not layer.bottleneck:
            total = ops.AddV2(x=part(f"w{name}", before), y=total)
        if layer.peephole and cells is not None:
            total = ops.AddV2(x=total, y=part(f"v{name}", cells))
        return total

    cell = _cell(ops, cell, gate("f", cell), gate("i", cell), activated(gate("g")))
    state = ops.Mul(x=ops.Sigmoid(x=gate("o", cell)), y=activated(cell))
    if layer.state_constrain:
        limit = float(layer.state_constrain)
        cell = ops.Maximum(x=ops.Minimum(x=cell, y=limit), y=-limit)
    y = state
    if layer.bottleneck and layer.shortcut:
        half = layer.output // 2
        first = ops.Split(axis=-1, value=x, num_split=2)[0]
        y = ops.AddV2(x=state, y=ops.Pad(input=first, paddings=[[0, 0]] * 3 + [[0, half]]))
    return y, {"state": state, "cell": cell}


def _cell(
    ops: Operations, cell: Tensor, forget: Tensor, enter: Tensor, candidate: Tensor
) -> Tensor:
    kept = ops.Mul(x=ops.Sigmoid(x=forget), y=cell)
    return ops.AddV2(x=kept, y=ops.Mul(x=ops.Sigmoid(x=enter), y=candidate))


def _tanh(ops: Operations, x: Tensor) -> Tensor:
    # Not Tanh: TensorFlow 2.21 fuses it with a preceding convolution and sum into an operation that
    # has no CPU kernel.
    doubled = ops.Sigmoid(x=ops.Mul(x=x, y=2.0))
    return ops.Sub(x=ops.Mul(x=doubled, y=2.0), y=1.0)


_STEPS: dict[type[cfg.Recurrent], Callable[..., tuple[Tensor, States]]] = {
    cfg.Rnn: _simple,
    cfg.Crnn: _simple,
    cfg.Gru: _gru,
    cfg.Lstm: _lstm,
    cfg.ConvLstm: _conv_lstm,
}
