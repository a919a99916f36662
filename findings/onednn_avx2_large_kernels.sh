#!/usr/bin/env bash
# tensorflow-cpu 2.21.0: with oneDNN on a processor that has AVX2 and no AVX-512, Conv2D with a 9x9
# kernel is more than a thousand times slower than with oneDNN off, from some image size on.
#
# oneDNN has no fast code for the shape and computes by its reference, without a word. It is on by
# default on processors with AVX-VNNI, of which many have no AVX-512; ONEDNN_MAX_CPU_ISA=AVX2 makes
# any other one with AVX2 behave so. Nothing is wrong at 24x24, nor with 7x7 kernels.
# Seen, on one thread of an AMD EPYC, 64 channels and filters: 24x24 5 ms (2 with oneDNN off), 40x40
# 7,700 ms (5 with oneDNN off).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q tensorflow-cpu==2.21.0 2> /dev/null
cat > "$folder/conv.py" <<'PYTHON'
import sys
import time

import numpy as np
import tensorflow as tf

tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
side = int(sys.argv[1])
image = tf.constant(np.ones((1, side, side, 64), np.float32))
kernel = tf.constant(np.ones((9, 9, 64, 64), np.float32))
seconds = []
for _ in range(2):  # the first one prepares
    start = time.perf_counter()
    tf.raw_ops.Conv2D(input=image, filter=kernel, strides=[1, 1, 1, 1], padding="SAME").numpy()
    seconds.append(time.perf_counter() - start)
print(min(seconds))
PYTHON
export TF_CPP_MIN_LOG_LEVEL=3
measured() { # SIDE, environment
  env "${@:2}" "$folder/venv/bin/python" "$folder/conv.py" "$1" 2> /dev/null
}
for side in 24 40; do
  off=$(measured "$side" TF_ENABLE_ONEDNN_OPTS=0)
  on=$(measured "$side" TF_ENABLE_ONEDNN_OPTS=1 ONEDNN_MAX_CPU_ISA=AVX2)
  ratio=$(python3 -c "print(round($on / $off))")
  echo "${side}x${side}: $off s with oneDNN off, $on s with oneDNN and AVX2: $ratio times"
  case $side in
    24) python3 -c "assert $ratio < 30, 'small images are slow, too'" ;;
    40) python3 -c "assert $ratio > 100, 'large images are fast now'" ;;
  esac
done
