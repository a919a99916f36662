"""Quantized `.tflite` files answer as float does, or are refused; any batch can be asked for."""

import numpy as np
import pytest
import tensorflow as tf
from cfgs import conv, net, normalized, route, section
from PIL import Image
from test_convert import assert_close, pictures_for, reference, write_weights

from yolotf import errors
from yolotf.formats import tflite
from yolotf.formats.convert import convert

pytestmark = pytest.mark.filterwarnings(r"ignore:\s*Warning. tf.lite.Interpreter:UserWarning")

MISH = net(32) + normalized(8, 3, "mish", stride=2) + 3 * normalized(16, 3, "mish") + conv(6)
UPSAMPLED = (
    net(32)
    + normalized(8, 3, "mish", stride=2)
    + normalized(8, 3, stride=2)
    + section("upsample", stride=2)
    + route(-1, 0)
    + conv(6)
)


@pytest.fixture
def photographs(tmp_path):
    random = np.random.default_rng(2)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(4):
        pixels = random.integers(0, 256, (32, 32, 4), np.uint8)
        pixels[..., 3] |= 128
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_mish_in_int8_is_that_of_float(channels, tmp_path, photographs):
    text = MISH.replace("channels=3", f"channels={channels}")
    output = tmp_path / "m.tflite"
    convert(write_weights(tmp_path, text), text, output, int8=photographs)
    runner = tf.lite.Interpreter(str(output)).get_signature_runner("serving_default")
    picture = pictures_for(text, batch=1)
    ours = runner(images=picture)["output_0"]
    (theirs,) = reference(text)[1](picture)
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.95


def test_a_file_whose_answers_are_others_is_refused(tmp_path, photographs, monkeypatch):
    weights, output = write_weights(tmp_path, MISH), tmp_path / "m.tflite"
    monkeypatch.setattr(tflite, "LEAST_CORRELATION", 1.0)
    with pytest.raises(errors.YolotfError, match=r"in int8 .* correlation output_0 ") as caught:
        convert(weights, MISH, output, int8=photographs)
    assert 0.9 < caught.value.correlations["output_0"] < 1
    assert not output.exists()
    convert(weights, MISH, output, int8=photographs, allow_inaccurate=True)
    assert output.exists()


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ([1, 2, 3], [2, 4, 6], 1),
        ([3, 2, 1], [2, 4, 6], -1),
        ([5, 5, 5], [5, 5, 5], 1),
        ([5, 5, 5], [2, 4, 6], 0),
        ([np.nan, 2, 3], [2, 4, 6], 0),
    ],
)
def test_correlation(ours, theirs, expected):
    assert tflite._correlation([np.array(ours)], [np.array(theirs)]) == pytest.approx(expected)


def test_another_batch_can_be_asked_for(tmp_path):
    output = tmp_path / "m.tflite"
    convert(write_weights(tmp_path, UPSAMPLED), UPSAMPLED, output)
    interpreter = tf.lite.Interpreter(str(output))
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], [2, 32, 32, 3])
    interpreter.allocate_tensors()
    pictures = pictures_for(UPSAMPLED, batch=2)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], pictures)
    interpreter.invoke()
    found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    assert_close([found], reference(UPSAMPLED)[1](pictures))
