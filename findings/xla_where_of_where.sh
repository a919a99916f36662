#!/usr/bin/env bash
# tensorflow-cpu 2.21.0: in a function with jit_compile=True, tf.where of a tensor whose size comes
# from another tf.where returns wrong indices, without an error. Without XLA they are right, and so
# is a single tf.where in XLA. This is how detectors pick boxes: first those whose objectness is
# above a threshold, then the classes of these boxes.
#
# Not always: right for 1000 rows. Seen: the lines printed below.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q tensorflow-cpu==2.21.0
cat > "$folder/where.py" <<'PYTHON'
import numpy as np
import tensorflow as tf


def selected(scores):
    """Indices of scores above 0.9 among the rows that start with a score above 0.5."""
    rows = tf.gather(scores, tf.where(scores[:, 0] > 0.5)[:, 0])
    return tf.where(rows > 0.9)


def selected_once(scores):
    """Indices of all scores above 0.9."""
    return tf.where(scores > 0.9)


def equal(function, scores):
    """Whether XLA computes what TensorFlow does."""
    expected = tf.function(function)(scores).numpy()
    actual = tf.function(function, jit_compile=True)(scores).numpy()
    return expected.shape == actual.shape and bool((expected == actual).all())


for rows in (40, 1000, 2535):
    scores = np.random.default_rng(0).random((rows, 3), np.float32)
    scores[:, 0] = np.arange(rows) % 5 == 0
    twice, once = equal(selected, scores), equal(selected_once, scores)
    print(f"{rows} rows: where of where {twice}, one where {once}")
    assert (twice, once) == (rows == 1000, True), "XLA behaves differently now"
PYTHON
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" "$folder/where.py"
