"""How classifiers get their images: the middle, letter boxed, or stretched."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import yolotf
from support.cfgs import conv, net, normalized, section, yolo
from support.helpers import write_weights
from support.messages import refused
from yolotf.cli.commands import main
from yolotf.darknet.cfg import parse_cfg
from yolotf.inference import build_function

TEXT = net(24, 32) + normalized(8, 3, stride=2) + conv(5) + "[avgpool]\n[softmax]\ngroups=1\n"
SHAPES = [(40, 70), (70, 40), (24, 32), (9, 7), (200, 30)]
RESIZES = ("crop", "letter_box", "stretch")


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "a.weights"
    write_weights(path, parse_cfg(TEXT), scale=0.5)
    return path


def resized(image: Any, rows: int, columns: int) -> Any:
    """Bilinear, the corners on each other, in loops' stead by TensorFlow's Python function."""
    return tf.compat.v1.image.resize_bilinear(image[None], (rows, columns), align_corners=True)[
        0
    ].numpy()


def by_hand(image: Any, resize: str) -> Any:
    """[24, 32, 3] as pjreddie's letterbox_image and AlexeyAB's resize_image make it."""
    values = image.astype(np.float32) / 255
    if resize == "stretch":
        return resized(values, 24, 32)
    rows, columns = image.shape[:2]
    is_wide = 32 / columns < 24 / rows
    inner = (rows * 32 // columns, 32) if is_wide else (24, columns * 24 // rows)
    boxed = np.full((24, 32, 3), 0.5, np.float32)
    top, left = (24 - inner[0]) // 2, (32 - inner[1]) // 2
    boxed[top : top + inner[0], left : left + inner[1]] = resized(values, *inner)
    return boxed


def image_of(shape: tuple[int, int]) -> Any:
    return np.random.default_rng(1).integers(0, 256, (*shape, 3)).astype(np.uint8)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("resize", RESIZES[1:])
def test_resize_option_gives_each_darknets_pixels(resize, shape, weights):
    image = image_of(shape)
    model = yolotf.build_model(parse_cfg(TEXT))
    yolotf.load_darknet_weights(model, weights)
    wanted = np.ravel(model(by_hand(image, resize)[None]))
    probabilities = yolotf.Classifier(TEXT, weights, resize=resize).probabilities([image])[0]
    np.testing.assert_allclose(probabilities, wanted, rtol=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize("resize", RESIZES)
def test_functions_exports_and_copies_prepare_alike(resize, weights, tmp_path):
    image = image_of((40, 70))
    classifier = yolotf.Classifier(TEXT, weights, resize=resize)
    wanted = classifier.probabilities([image, image])
    function = build_function(TEXT, weights, resize=resize)
    np.testing.assert_allclose(function(image[None])[0], wanted[0], rtol=2e-4)
    floats = image[None].astype(np.float32) / 255
    np.testing.assert_allclose(function(floats)[0], wanted[0], rtol=2e-4)
    classifier.export(tmp_path / "export")
    served = tf.saved_model.load(str(tmp_path / "export")).signatures["probabilities"]
    answer = served(images=tf.constant(image[None]))["probabilities"]
    np.testing.assert_allclose(answer[0], wanted[0], rtol=2e-4)
    for other in (copy.copy(classifier), pickle.loads(pickle.dumps(classifier))):
        np.testing.assert_array_equal(other.probabilities([image, image]), wanted)


def test_resize_options_give_different_pixels(weights):
    image = image_of((200, 30))
    answers = [
        yolotf.Classifier(TEXT, weights, resize=resize).probabilities([image])[0]
        for resize in RESIZES
    ]
    assert np.abs(answers[0] - answers[1]).max() > 1e-3
    assert np.abs(answers[1] - answers[2]).max() > 1e-3


def test_unknown_resize_options_are_refused(weights):
    for make in (yolotf.Classifier, build_function):
        with refused(ValueError):
            make(TEXT, weights, resize="fit")
    text = net(32) + conv(18) + yolo()
    with refused(ValueError):
        build_function(text, weights, resize="stretch")


def test_classify_command_takes_resize(weights, tmp_path, capsys):
    (tmp_path / "a.cfg").write_text(TEXT)
    Image.fromarray(image_of((200, 30))).save(tmp_path / "a.png")
    printed = []
    for options in ([], ["--resize", "crop"], ["--resize", "letter-box"], ["--resize", "stretch"]):
        arguments = ["classify", str(tmp_path / "a.png"), "--cfg", str(tmp_path / "a.cfg")]
        assert main([*arguments, "--weights", str(weights), "--json", *options]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert len(set(printed)) == 3


def test_a_head_of_a_dense_layer_is_served_alike(tmp_path):
    text = net(16) + normalized(4, 3) + section("connected", output=3, activation="linear")
    path = tmp_path / "b.weights"
    write_weights(path, parse_cfg(text))
    image = image_of((16, 16))
    answers = [
        yolotf.Classifier(text, path, resize=resize).probabilities([image]) for resize in RESIZES
    ]
    for answer in answers[1:]:  # nothing to resize
        np.testing.assert_allclose(answer, answers[0], rtol=1e-5)
