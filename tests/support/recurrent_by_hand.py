"""Recurrent sections in NumPy, loop for loop as in Darknet's C code, and Darknet's own results.

The code reads the floats of a file in order, and does not use yolotf's plans.
"""

import numpy as np

from support import weights_files
from yolotf.darknet import cfg
from yolotf.weights import layout

NET = "[net]\nwidth=3\nheight=2\nchannels=2\n"
FRAMES = 4


def logistic(x):
    return 1 / (1 + np.exp(-x))


ACTIVATIONS = {
    "linear": lambda x: x,
    "leaky": lambda x: np.where(x > 0, x, 0.1 * x),
    "relu": lambda x: np.maximum(x, 0),
    "logistic": logistic,
    "loggy": lambda x: 2 * logistic(x) - 1,
    "tanh": np.tanh,
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
}


class Floats:
    """Reads a file from its first float on."""

    def __init__(self, numbers):
        self.numbers = np.asarray(numbers, np.float64)
        self.place = 0

    def take(self, *shape):
        count = int(np.prod(shape))
        self.place += count
        return self.numbers[self.place - count : self.place].reshape(shape)


def normalize(x, scales, biases):
    if scales is None:
        return x + biases
    gamma, mean, variance = scales
    return (x - mean) / np.sqrt(variance + 1e-5) * gamma + biases


def dense(floats, inputs, outputs, normalized, activation):
    biases, weights = floats.take(outputs), floats.take(outputs, inputs)
    scales = [floats.take(outputs) for _ in range(3)] if normalized else None
    return lambda x: ACTIVATIONS[activation](normalize(weights @ x.ravel(), scales, biases))


def convolution(floats, channels, filters, normalized, activation, size=3, groups=1, dilation=1):
    """Convolves (channels, rows, columns); the output has as many rows and columns."""
    biases = floats.take(filters, 1, 1)
    scales = [floats.take(filters, 1, 1) for _ in range(3)] if normalized else None
    weights = floats.take(filters, channels // groups, size, size)
    side = size // 2 * dilation

    def run(x):
        _, height, width = x.shape
        padded = np.pad(x, ((0, 0), (side, side), (side, side)))
        out = np.zeros((filters, height, width))
        for group in range(groups):
            mine = slice(group * filters // groups, (group + 1) * filters // groups)
            read = slice(group * channels // groups, (group + 1) * channels // groups)
            for i in range(size):
                for j in range(size):
                    top, left = i * dilation, j * dilation
                    part = padded[read, top : top + height, left : left + width]
                    out[mine] += np.tensordot(weights[mine, :, i, j], part, 1)
        return ACTIVATIONS[activation](normalize(out, scales, biases))

    return run


def rnn(floats, inputs, hidden, output, normalized, activation, kept=None, shortcut=False):
    parts = [
        dense(floats, inputs, hidden, normalized, activation),
        dense(floats, hidden, hidden, normalized, kept or activation),
        dense(floats, hidden, output, normalized, activation),
    ]
    return _simple(parts, np.zeros(hidden), shortcut)


def crnn(floats, shape, hidden, output, normalized, activation, shortcut=False, **window):
    channels, height, width = shape
    parts = [
        convolution(floats, entering, filters, normalized, activation, **window)
        for entering, filters in ((channels, hidden), (hidden, hidden), (hidden, output))
    ]
    return _simple(parts, np.zeros((hidden, height, width)), shortcut)


def _simple(parts, state, shortcut):
    def run(x):
        nonlocal state
        state = (state if shortcut else 0) + parts[0](x) + parts[1](state)
        return parts[2](state)

    return run


def gru(floats, inputs, output, normalized):
    enter = {g: dense(floats, inputs, output, normalized, "linear") for g in "zrh"}
    keep = {g: dense(floats, output, output, normalized, "linear") for g in "zrh"}
    state = np.zeros(output)

    def run(x):
        nonlocal state
        z = logistic(enter["z"](x) + keep["z"](state))
        r = logistic(enter["r"](x) + keep["r"](state))
        h = logistic(enter["h"](x) + keep["h"](r * state))
        state = z * state + (1 - z) * h
        return state

    return run


def lstm(floats, inputs, output, normalized):
    w = {g: dense(floats, output, output, normalized, "linear") for g in "figo"}
    u = {g: dense(floats, inputs, output, normalized, "linear") for g in "figo"}
    cell, h = np.zeros(output), np.zeros(output)

    def run(x):
        nonlocal cell, h
        f, i, g, o = (w[gate](h) + u[gate](x) for gate in "figo")
        cell = logistic(f) * cell + logistic(i) * np.tanh(g)
        h = logistic(o) * np.tanh(cell)
        return h

    return run


def conv_lstm(
    floats,
    shape,
    output,
    normalized,
    activation="linear",
    peephole=False,
    bottleneck=False,
    shortcut=False,
    constrain=32,
    bent="tanh",
):
    channels, height, width = shape

    def part(entering):
        return convolution(floats, entering, output, normalized, activation)

    v = {gate: part(output) for gate in "fio"} if peephole else {}
    w = {"f": part(2 * output)} if bottleneck else {gate: part(output) for gate in "figo"}
    u = {gate: part(channels) for gate in "figo"}
    cell, h = np.zeros((2, output, height, width))
    bend = ACTIVATIONS[bent]

    def run(x):
        nonlocal cell, h
        before = h
        if bottleneck:
            x = bend(w["f"](np.concatenate([before, x])))

        def gate(name):
            total = u[name](x) + (0 if bottleneck else w[name](before))
            return total + (v[name](cell) if name in v else 0)

        f, i = logistic(gate("f")), logistic(gate("i"))
        cell = f * cell + i * bend(gate("g"))
        o = logistic(gate("o"))
        h = o * bend(cell)
        if constrain:
            cell = np.clip(cell, -constrain, constrain)
        if not (bottleneck and shortcut):
            return h
        y = h.copy()
        y.ravel()[: y.size // 2] += x.ravel()[: y.size // 2]
        return y

    return run


def history(shape, size):
    channels, height, width = shape
    nothing = np.zeros((channels * (size - 1), height, width))
    return lambda x: np.concatenate([x, nothing])


def in_sequence(*runs):
    """Runs the sections one after the other."""

    def run(x):
        for step in runs:
            x = step(x)
        return x

    return run


PICTURE = (2, 2, 3)
CASES = {
    "crnn": (
        "[crnn]\nbatch_normalize=1\nsize=3\npad=1\noutput=2\nhidden=3\nactivation=leaky\n",
        lambda f: crnn(f, PICTURE, 3, 2, True, "leaky"),
    ),
    "crnn with a shortcut": (
        "[crnn]\nsize=3\npad=1\noutput=2\nhidden=3\nactivation=mish\nshortcut=1\n",
        lambda f: crnn(f, PICTURE, 3, 2, False, "mish", shortcut=True),
    ),
    "crnn in groups": (
        "[crnn]\nsize=3\npad=1\noutput=4\nhidden=2\ngroups=2\ndilation=2\nactivation=relu\n",
        lambda f: crnn(f, PICTURE, 2, 4, False, "relu", groups=2, dilation=2),
    ),
    "conv_lstm": (
        "[conv_lstm]\nbatch_normalize=1\nsize=3\npad=1\noutput=2\n",
        lambda f: conv_lstm(f, PICTURE, 2, True),
    ),
    "conv_lstm with peepholes": (
        "[conv_lstm]\nsize=3\npad=1\noutput=2\nactivation=leaky\npeephole=1\nstate_constrain=1\n",
        lambda f: conv_lstm(f, PICTURE, 2, False, "leaky", peephole=True, constrain=1),
    ),
    "rnn": (
        "[rnn]\nbatch_normalize=1\nhidden=4\noutput=3\nactivation=leaky\nlogistic=1\n",
        lambda f: rnn(f, 12, 4, 3, True, "leaky", "logistic"),
    ),
    "rnn with a shortcut": (
        "[rnn]\nhidden=4\noutput=3\nactivation=tanh\nlogistic=2\nshortcut=1\n",
        lambda f: rnn(f, 12, 4, 3, False, "tanh", "loggy", shortcut=True),
    ),
    "gru": (
        "[gru]\nbatch_normalize=1\noutput=4\n[gru]\noutput=3\n",
        lambda f: in_sequence(gru(f, 12, 4, True), gru(f, 4, 3, False)),
    ),
    "lstm": (
        "[lstm]\nbatch_normalize=1\noutput=4\n[lstm]\noutput=3\n",
        lambda f: in_sequence(lstm(f, 12, 4, True), lstm(f, 4, 3, False)),
    ),
    "history": ("[history]\nhistory_size=3\n", lambda f: history(PICTURE, 3)),
}
"""Sections after `NET`, and what they compute from a file's floats; Darknet ran them, too."""

FIGURES = {
    "crnn": [
        -0.58903,
        -1.28146,
        1.63588,
        -0.99116,
        11.45642,
        -0.04418,
        -0.51561,
        4.55166,
        -0.03589,
        -1.00093,
        -0.04113,
        -0.03106,
    ],
    "crnn with a shortcut": [
        38.99868,
        0.00000,
        -0.00168,
        27.93004,
        -0.00000,
        9.98230,
        26.73464,
        0.00000,
        8.47837,
        7.07083,
        -0.00000,
        -0.22878,
    ],
    "crnn in groups": [
        0.00000,
        0.00000,
        0.00000,
        0.00000,
        0.00000,
        0.00000,
        0.62000,
        0.62000,
        0.62000,
        0.62000,
        0.62000,
        0.62000,
    ],
    "conv_lstm": [
        -0.09767,
        0.09614,
        -0.19674,
        -0.60681,
        -0.48587,
        -0.47335,
        -0.17427,
        -0.28628,
        -0.50273,
        -0.47953,
        -0.72185,
        -0.09485,
    ],
    "conv_lstm with peepholes": [
        0.37056,
        0.36915,
        0.45045,
        0.37727,
        0.12225,
        0.39378,
        -0.01833,
        0.37525,
        0.07679,
        -0.20086,
        0.02336,
        -0.04724,
    ],
    "rnn": [1.53734, -0.13439, 3.66050],
    "rnn with a shortcut": [-0.99990, 1.00000, -0.99972],
    "gru": [0.68319, 0.18955, 0.39983],
    "lstm": [0.13595, -0.19854, -0.20813],
    "history": [
        0.67010,
        0.76289,
        0.85567,
        0.94845,
        0.04124,
        0.13402,
        0.21649,
        0.30928,
        0.40206,
        0.49485,
        0.58763,
        0.68041,
    ],
}
"""The first values that Darknet outputs for the last frame, channel by channel.

Measured with its CPU code, frame by frame with one time step.
"""

GPU_CASES = {
    "conv_lstm with a bottleneck": (
        "[conv_lstm]\nbatch_normalize=1\nsize=3\npad=1\noutput=2\nbottleneck=1\n",
        lambda f: conv_lstm(f, PICTURE, 2, True, bottleneck=True),
    ),
    "conv_lstm with a bottleneck and a shortcut": (
        "[conv_lstm]\nsize=3\npad=1\noutput=2\nbottleneck=1\nshortcut=1\npeephole=1\n"
        "lstm_activation=leaky\n",
        lambda f: conv_lstm(
            f, PICTURE, 2, False, peephole=True, bottleneck=True, shortcut=True, bent="leaky"
        ),
    ),
    "conv_lstm without tanh": (
        "[conv_lstm]\nsize=3\npad=1\noutput=2\nlstm_activation=linear\nstate_constrain=1\n",
        lambda f: conv_lstm(f, PICTURE, 2, False, constrain=1, bent="linear"),
    ),
}
"""Cases that only Darknet's GPU code computes."""


ALL = {**CASES, **GPU_CASES}


def network_of(body):
    return cfg.parse_text(NET + body, source="some.cfg")


def case(name, path):
    """Returns the network, the floats of the file written for it, and the expected outputs."""
    body, make = ALL[name]
    network = network_of(body)
    return network, path, by_hand(make, write(path, layout.segments(network)))


def numbers(segments):
    """Returns a file's floats from a formula: from -1 to 1, positive where they have to be."""
    parts = []
    for number, segment in enumerate(segments):
        count = int(np.prod(segment.shape))
        part = ((np.arange(count) * 37 + 11 * number) % 101 - 50) / 50
        if segment.role in ("gamma", "moving_variance"):
            part = np.abs(part) + 0.5
        parts.append(part.astype(np.float32))
    return np.concatenate([np.zeros(0, np.float32), *parts])


def write(path, segments):
    """Writes the file of `numbers`; returns its floats."""
    floats = numbers(segments)
    weights_files.write(path, floats)
    return floats


def frames(shape=(2, 3, 2), count=FRAMES):
    """Returns images [frames, rows, columns, channels] in 0..1."""
    total = count * int(np.prod(shape))
    return ((np.arange(total) * 53 % 97) / 97).astype(np.float32).reshape(count, *shape)


def by_hand(make, floats):
    """Returns the outputs of a case, [frames, rows, columns, channels]."""
    run = make(Floats(floats))
    outputs = [run(frame.transpose(2, 0, 1).astype(np.float64)) for frame in frames()]
    return np.stack([y.transpose(1, 2, 0) if y.ndim == 3 else y[None, None] for y in outputs])
