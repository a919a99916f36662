"""Tests of several files run again, one process each: with tf_keras, and on other processors.

TensorFlow and Keras look at their environment once, when they are imported. That takes longer than
most of these tests, so that all of one environment share a process.
"""

from __future__ import annotations

import pytest

from support import helpers

pytestmark = pytest.mark.slow

LEARNS = "learns and nothing or yolov4"  # from a backbone: the same operations


def test_layers_are_the_same_with_tf_keras():
    pytest.importorskip("tf_keras")
    passed = helpers.run_tests(
        {
            "models/test_keras_model.py": "test_section",
            "models/test_initial.py": "seeds or anew or lstm or flipped or local",
            "models/test_undrawn.py": "built_with or build_refuses or build_warns",
            "models/test_reorg.py": "",
        },
        TF_USE_LEGACY_KERAS="1",
    )
    assert passed["models/test_keras_model.py"] > 50
    assert passed["models/test_initial.py"] >= 5
    assert passed["models/test_undrawn.py"] >= 4
    assert passed["models/test_reorg.py"] >= 14


def test_training_does_not_need_onednn():
    # TensorFlow: "Gradients for grouped convolutions are not supported on CPU", and "Current CPU
    # implementations do not yet support dilation rates larger than 1".
    passed = helpers.run_tests(
        {
            "graphs/test_yolo_loss.py": LEARNS,
            "models/test_keras_model.py": "test_section_convolution_has_the_gradient"
            " or test_section_model_trains",
        },
        TF_ENABLE_ONEDNN_OPTS="0",
    )
    assert passed["graphs/test_yolo_loss.py"] >= 3
    assert passed["models/test_keras_model.py"] >= 16


def test_training_does_not_need_avx512():
    passed = helpers.run_tests(
        {"graphs/test_yolo_loss.py": LEARNS},
        TF_ENABLE_ONEDNN_OPTS="1",
        ONEDNN_MAX_CPU_ISA="AVX2",
    )
    assert passed["graphs/test_yolo_loss.py"] >= 3
