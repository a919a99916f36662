"""Darknet's activations as TensorFlow operations, channels last."""

from __future__ import annotations

from collections.abc import Callable

from yolotf.graphs.operations import Operations, Tensor

_NORMALIZE_EPSILON = 0.0001  # activations.c:199, blas.c:85


def activate_fused(ops: Operations, x: Tensor, activation: str) -> Tensor:
    """`activate` directly after `add_bias`, written so that TensorFlow fuses the two."""
    if activation == "leaky":
        return ops.LeakyRelu(features=x, alpha=LEAKY)
    return activate(ops, x, activation)


def activate(ops: Operations, x: Tensor, activation: str) -> Tensor:
    """Applies any of `cfg.ACTIVATIONS`, channels last (activations.h:41-84, activations.c:160-260).

    `relu6` is that of Darknet's GPU code; the CPU code lacks it and returns 0.
    """
    return _FORMULAS[activation](ops, x)


LEAKY = 0.1
"""Slope of `leaky` below 0."""

ACROSS_CHANNELS = frozenset(
    {"normalize_channels", "normalize_channels_softmax", "normalize_channels_softmax_maxval"}
)
"""Activations that depend on all channels of a position."""


def _leaky(ops: Operations, x: Tensor) -> Tensor:
    # Not LeakyRelu: TensorFlow 2.21 fuses convolution, bias, sum and LeakyRelu into one operation
    # that ignores the slope and uses 0.2.
    return ops.Maximum(x=x, y=ops.Mul(x=x, y=LEAKY))


def _mish(ops: Operations, x: Tensor) -> Tensor:
    # TensorFlow fuses this form with the convolution, as oneDNN's mish.
    return ops.Mul(x=x, y=ops.Tanh(x=ops.Softplus(features=x)))


def mish_by_exp(ops: Operations, x: Tensor) -> Tensor:
    """Applies Mish in a form that TensorFlow cannot fuse, but that is three times as fast unfused.

    TensorFlow's Softplus takes three times as long as its Exp. This form has none:
    tanh(log(1 + e^x)) is 1 - 2 / ((1 + e^x)^2 + 1), also where e^x is infinite.
    """
    square = ops.SquaredDifference(x=ops.Exp(x=x), y=-1.0)
    rest = ops.RealDiv(x=2.0, y=ops.AddV2(x=square, y=1.0))
    return ops.Mul(x=x, y=ops.Sub(x=1.0, y=rest))


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


def normalized(ops: Operations, positive: Tensor, axis: int) -> Tensor:
    """Divides `positive` values by their sum over an axis (activations.c:199)."""
    total = ops.Sum(input=positive, axis=[axis], keep_dims=True)
    return ops.RealDiv(x=positive, y=ops.AddV2(x=total, y=_NORMALIZE_EPSILON))


def _minus_largest(ops: Operations, x: Tensor) -> Tensor:
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
    "normalize_channels": lambda ops, x: normalized(ops, ops.Relu(features=x), -1),
    "normalize_channels_softmax": lambda ops, x: normalized(ops, ops.Exp(x=x), -1),
    "normalize_channels_softmax_maxval": lambda ops, x: normalized(
        ops, ops.Exp(x=_minus_largest(ops, x)), -1
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
