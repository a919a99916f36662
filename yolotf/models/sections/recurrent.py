"""Recurrent sections and `[history]`, with the layers for them."""

# mypy: disallow-subclassing-any=False, disallow-untyped-decorators=False

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from yolotf.darknet import cfg
from yolotf.darknet.graph_checks import BN_EPSILON
from yolotf.graphs.frame_loop import run_in_order
from yolotf.graphs.sections import recurrent
from yolotf.models import initial
from yolotf.models.activation_layers import activated
from yolotf.models.builder import BN_MOMENTUM, Builder, builds
from yolotf.models.registration import Layer, layers, register
from yolotf.models.sections.convolutional import FlexibleConv2D


@builds(cfg.Rnn, cfg.Crnn, cfg.Gru, cfg.Lstm, cfg.ConvLstm)
def _recurrent(builder: Builder, layer: cfg.Recurrent, inputs: Sequence[Any]) -> Any:
    text = cfg.sections_to_cfg([layer.section])
    return Recurrent(text, **builder.named(layer))(*inputs)


@builds(cfg.History)
def _history(builder: Builder, layer: cfg.History, inputs: Sequence[Any]) -> Any:
    return History(layer.history_size, **builder.named(layer))(*inputs)


@register
class History(Layer):
    """`[history]` with one time step: the frame's channels, then zeros (conv_lstm_layer.c:290)."""

    def __init__(self, history_size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.history_size = history_size

    def call(self, inputs: Any) -> Any:
        """Returns NHWC `inputs` with `history_size` times the channels."""
        return recurrent.history(tf.raw_ops, inputs, self.history_size)

    def compute_output_shape(self, input_shape: Sequence[int]) -> tuple[int, ...]:
        """Returns the input's shape with `history_size` times the channels."""
        return (*input_shape[:-1], input_shape[-1] * self.history_size)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "history_size": self.history_size}


@register
class Recurrent(Layer):
    """`[rnn]`, `[crnn]`, `[gru]`, `[lstm]` and `[conv_lstm]`, with their recurrent state.

    A batch is consecutive frames of one video. The state (`states`, variables that are not in the
    file) is kept between calls until `reset_states`. In training, every batch is a separate video,
    as `time_steps` are in Darknet; `states` are neither read nor changed.

    `parts` has its layers by name, for example `input` and `input_bn`, in file order.
    """

    def __init__(self, section: str, **kwargs: Any) -> None:
        """Sets the section.

        Args:
            section: the section's text as in the cfg: `[crnn]` and its options.
            kwargs: arguments of `keras.layers.Layer`.
        """
        super().__init__(**kwargs)
        self.section = section
        self.stateful = True
        self.supports_jit = False  # the number of steps is the batch size

    def _described(self, input_shape: Sequence[int]) -> cfg.Recurrent:
        height, width, channels = input_shape[1:]
        net = f"[net]\nheight={height}\nwidth={width}\nchannels={channels}\n"
        (layer,) = cfg.parse_text(net + self.section, source=self.name).layers
        assert isinstance(layer, cfg.Recurrent)
        return layer

    def build(self, input_shape: Sequence[int]) -> None:
        """Creates the parts and the state."""
        self._layer = self._described(input_shape)
        self.parts = {}
        for part in self._layer.sublayers:
            kernel = self._kernel(f"{self.name}_{part.name}", part.layer)
            kernel.build((1, *part.layer.input_shape))
            self.parts[part.name] = kernel
            if part.layer.batch_normalize:
                norm = layers.BatchNormalization(
                    momentum=BN_MOMENTUM,
                    epsilon=BN_EPSILON,
                    dtype=self.dtype_policy,
                    name=f"{self.name}_{part.name}_bn",
                )
                norm.build((1, *part.layer.output_shape))
                self.parts[f"{part.name}_bn"] = norm
        self.states = [
            self.add_weight(name=name, shape=(1, *shape), initializer="zeros", trainable=False)
            for name, shape in self._layer.states.items()
        ]
        self.built = True

    def _kernel(self, name: str, layer: cfg.Convolutional | cfg.Connected) -> Any:
        options = {"use_bias": not layer.batch_normalize, "dtype": self.dtype_policy, "name": name}
        if isinstance(layer, cfg.Connected):
            drawn = initial.kernel(layer.input_shape.floats)
            return layers.Dense(layer.output, kernel_initializer=drawn, **options)
        return FlexibleConv2D(layer.filters, layer.size, groups=layer.groups, **options)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Runs the frames in order; input and output are (frames, rows, columns, channels)."""
        layer = self._layer
        parts = {part.name: part.layer for part in layer.sublayers}
        names = list(layer.states)

        def run_part(name: str, x: Any) -> Any:
            section, kernel = parts[name], self.parts[name]
            if isinstance(section, cfg.Connected):
                # Darknet flattens channels, rows, columns, in this order.
                flat = tf.reshape(tf.transpose(x, [0, 3, 1, 2]), [1, section.input_shape.floats])
                x = kernel(flat)[:, None, None]
            else:
                side = [section.padding * section.dilation] * 2
                strides = (section.stride_y, section.stride_x)
                x = kernel(x, strides=strides, padding=(side, side), dilation_rate=section.dilation)
            if section.batch_normalize:
                x = self.parts[f"{name}_bn"](x, training=training)
            return activated(x, section.activation)

        def step(frame: Any, before: Sequence[Any]) -> tuple[list[Any], list[Any]]:
            states = dict(zip(names, before, strict=True))
            y, after = recurrent.step(tf.raw_ops, layer, frame, states, run_part)
            return [y], [after[name] for name in names]

        initial_states = [
            tf.cast(tf.convert_to_tensor(state), inputs.dtype) for state in self.states
        ]
        if training:
            initial_states = [tf.zeros_like(state) for state in initial_states]
        (outputs,), after = run_in_order(step, inputs, initial_states, [layer.output_shape])
        if not training:
            for state, value in zip(self.states, after, strict=True):
                state.assign(tf.cast(value, state.dtype))
        return outputs

    def reset_states(self) -> None:
        """Resets the state: the next frame is the first of another video."""
        for state in self.states:
            state.assign(tf.zeros(state.shape, state.dtype))

    reset_state = reset_states  # the name in Keras 3

    def compute_output_shape(self, input_shape: Sequence[int]) -> tuple[int, ...]:
        """Returns the section's output shape."""
        return (input_shape[0], *self._described(input_shape).output_shape)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "section": self.section}


def reset_states(model: Any) -> None:
    """Resets the state of a model: the next frame is the first of another video."""
    for layer in model.layers:
        if isinstance(layer, Recurrent):
            layer.reset_states()
