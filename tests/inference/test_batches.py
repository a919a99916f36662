"""Batches as servers hand them over, given to everything that takes images."""

import io
from functools import partial

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from support import messages, numpy_loader
from support.networks_of_sections import SMALL
from yolotf import Classifier, Detector, build_function
from yolotf.darknet.cfg import parse_cfg

CLASSIFIER = SMALL[: SMALL.index("[yolo]")] + "[avgpool]\n[softmax]\n"
IMAGES = np.random.default_rng(5).integers(0, 256, (3, 40, 50, 3)).astype(np.uint8)
ENGINES = ["tensorflow", "openvino", "onnxruntime"]


class OnlyAnArray:
    """What has `__array__` and nothing else of an array."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return self.values


class Unreadable:
    """A tensor of a GPU, as other libraries have them."""

    shape = (2, 40, 50, 3)

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("Can't convert a tensor of a GPU.\nMove it to the CPU.")


def of_objects(values):
    """One-dimensional, also of arrays of one shape, which NumPy would stack."""
    array = np.empty(len(values), object)
    for index, value in enumerate(values):
        array[index] = value
    return array


def png(pixels):
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "png")
    return encoded.getvalue()


BATCHES = {
    "uint8": IMAGES,
    "float32": IMAGES.astype(np.float32) / 255,
    "float64": IMAGES / 255,
    "big-endian": (IMAGES / 255).astype(">f4"),
    "tensor": tf.constant(IMAGES),
    "list": list(IMAGES),
    "tuple of tensors": tuple(tf.constant(IMAGES)),
    "not contiguous": IMAGES.repeat(2, 2)[:, :, ::2],
    "turned twice": IMAGES[:, ::-1].copy()[:, ::-1],
    "Fortran's order": np.asfortranarray(IMAGES),
    "read-only": np.frombuffer(IMAGES.tobytes(), np.uint8).reshape(IMAGES.shape),
    "__array__": OnlyAnArray(IMAGES),
}
REFUSED = {
    "channels first": (ValueError, IMAGES.transpose(0, 3, 1, 2)),
    "one image, channels first": (ValueError, IMAGES[0].transpose(2, 0, 1)),
    "two channels": (ValueError, IMAGES[..., :2]),
    "without channels": (ValueError, IMAGES[:2, ..., 0]),
    "five axes": (ValueError, IMAGES[None]),
    "without pixels": (ValueError, IMAGES[:, :0]),
    "int64": (TypeError, IMAGES.astype(np.int64)),
    "int32": (TypeError, IMAGES.astype(np.int32)),
    "uint16": (TypeError, IMAGES.astype(np.uint16)),
    "bool": (TypeError, IMAGES > 128),
    "complex": (TypeError, IMAGES.astype(np.complex64)),
    "floats of 0..255": (ValueError, IMAGES.astype(np.float32)),
    "NaN": (ValueError, np.full(IMAGES.shape, np.nan, np.float32)),
    "lists of lists": (TypeError, IMAGES.tolist()),
    "a generator": (TypeError, (image for image in IMAGES)),
    "None": (TypeError, None),
    "a tensor of a GPU": (TypeError, Unreadable()),
}


@pytest.fixture(scope="module", params=["detector", "classifier"])
def network(request, tmp_path_factory):
    text = SMALL if request.param == "detector" else CLASSIFIER
    path = tmp_path_factory.mktemp("batches") / "a.weights"
    path.write_bytes(numpy_loader.random_file(text, 3))
    return parse_cfg(text), path


@pytest.fixture(scope="module", params=[*ENGINES, "build_function"])
def answer(request, network):
    """Returns a function from images to an array of numbers for each of them."""
    parsed, path = network
    options = {"score_threshold": 0.1} if parsed.heads else {}
    if request.param == "build_function":
        function = build_function(parsed, path, **options)
        return lambda images: of_function(function(images))
    pytest.importorskip(request.param, reason=f"needs {request.param}")
    kind = Detector if parsed.heads else Classifier
    model = kind(parsed, path, engine=request.param, batch_size=2, **options)
    return lambda images: of_model(model(images))


def of_function(result):
    if not isinstance(result, tuple):
        return list(result.numpy())
    return [
        np.concatenate([boxes, scores[:, None]], 1)[:count]
        for boxes, scores, count in zip(
            result.boxes.numpy(), result.scores.numpy(), result.counts.numpy(), strict=True
        )
    ]


def of_model(results):
    assert isinstance(results, list)
    if results and not hasattr(results[0], "xyxy"):
        return [result.scores[np.argsort(result.classes)] for result in results]
    return [np.concatenate([result.xyxy, result.scores[:, None]], 1) for result in results]


@pytest.fixture(scope="module")
def expected(answer):
    """Each image by itself."""
    return [answer(image[None])[0] for image in IMAGES]


@pytest.mark.slow
@pytest.mark.parametrize("name", BATCHES)
def test_a_batch_gives_what_each_image_gives(name, answer, expected):
    answers = answer(BATCHES[name])
    assert sum(map(len, expected)) > 0
    for together, alone in zip(answers, expected, strict=True):
        np.testing.assert_allclose(together, alone, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16], ids=lambda dtype: dtype.name)
def test_floats_of_16_bits_are_those_of_32(dtype, answer):
    halves = tf.cast(IMAGES, dtype) / 255
    for ours, others in zip(answer(halves), answer(tf.cast(halves, tf.float32)), strict=True):
        np.testing.assert_allclose(ours, others, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("empty", [IMAGES[:0], [], (), np.zeros((0, 0, 0, 3), np.uint8)])
def test_an_empty_batch_has_no_answers(empty, answer):
    assert answer(empty) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("answer", ["tensorflow", "build_function"], indirect=True)
def test_what_is_no_batch_is_refused(name, answer):
    kind, images = REFUSED[name]
    with messages.refused(kind):
        answer(images)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 4])
def test_gray_images_and_alpha_are_for_detectors(channels, network):
    """A function has no conversion in its graph."""
    parsed, path = network
    batch = np.concatenate([IMAGES, IMAGES[..., :1]], 3)[..., -channels:]
    model = (Detector if parsed.heads else Classifier)(parsed, path)
    assert len(model(batch)) == len(batch)
    with messages.refused(ValueError):
        build_function(parsed, path)(batch)


@pytest.mark.slow
def test_arrays_of_objects_are_lists(network, tmp_path):
    parsed, path = network
    model = (Detector if parsed.heads else Classifier)(parsed, path)
    files = [tmp_path / "0.png", tmp_path / "1.png"]
    for file, image in zip(files, IMAGES, strict=False):
        file.write_bytes(png(image))
    expected = [str(model(image)) for image in IMAGES[:2]]
    for batch in (
        of_objects(list(IMAGES[:2])),
        of_objects([png(image) for image in IMAGES[:2]]),
        tf.constant([png(image) for image in IMAGES[:2]]),
        of_objects(files),
        np.array([str(file) for file in files]),
    ):
        assert [str(result) for result in model(batch)] == expected
    sizes = model(of_objects([IMAGES[0], IMAGES[1][:20]]))
    assert [str(result) for result in sizes] == [expected[0], str(model(IMAGES[1][:20]))]
    for alone in (np.str_(files[0]), np.array(str(files[0])), np.bytes_(png(IMAGES[0]))):
        assert str(model(alone)) == expected[0]


@pytest.mark.slow
def test_functions_check_inputs_that_are_resized_already(network):
    parsed, path = network
    if not parsed.heads:
        return  # no such function
    function = build_function(parsed, path)
    inputs = function.fit(IMAGES)
    sizes = np.array([[40, 50]] * 3)
    expected = function.fitted(inputs, sizes)
    again = function.fitted(inputs.numpy().astype(np.float64), sizes)
    np.testing.assert_array_equal(again.boxes, expected.boxes)
    for kind, wrong in (
        (TypeError, (inputs * 255).numpy().astype(np.uint8)),
        (TypeError, None),
        (ValueError, inputs[:, :16]),
        (ValueError, inputs[..., :1]),
        (ValueError, inputs[0]),
    ):
        for run in (function.raw_heads, partial(function.fitted, image_sizes=sizes)):
            with messages.refused(kind):
                run(wrong)
    with messages.refused(ValueError):
        function.fit(IMAGES.transpose(0, 3, 1, 2))
    assert function.fit([]).shape == (0, 32, 64, 3)


@pytest.mark.slow
def test_functions_check_what_a_graph_shows(network):
    """In a tf.function the shape and the dtype are known, not the values."""
    function = build_function(*network)

    @tf.function(autograph=False)
    def graph(images):
        return tf.nest.flatten(function(images))

    for ours, graphs in zip(tf.nest.flatten(function(IMAGES)), graph(IMAGES), strict=True):
        np.testing.assert_allclose(ours, graphs, rtol=1e-3, atol=1e-3)
    for kind, images in (
        (TypeError, tf.cast(IMAGES, tf.int32)),
        (ValueError, tf.transpose(IMAGES, [0, 3, 1, 2])),
    ):
        with messages.refused(kind):
            graph(images)
