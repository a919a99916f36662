"""Raw heads against OpenCV's importer, which reads cfg and weights with its own code.

OpenCV's batch normalization has an epsilon of 1e-6, Darknet's and ours is 1e-5. On random files
the variances are so large that float32 cannot tell (`calibrated_weights`). On real files the
variables get 0.000009 less variance here, which makes the sum OpenCV's: the formula under test
stays the same, and so does the tolerance.
"""

import cv2
import numpy as np
import pytest

from support import helpers, numpy_loader
from support.calibrated_weights import calibrated_file
from yolotf.darknet import cfg
from yolotf.models.build import build_model
from yolotf.weights import layout

TOLERANCE = 1e-4
LARGEST = 62_200_000
"""Networks of more floats, those above yolov3's, are made thin."""
DEEP = ("cspx-p7", "yolov4-p")
"""Networks that halve the image six or seven times."""


def opencv_heads(network, content, pictures):
    """The input of each head, NHWC, as OpenCV computes it."""
    sections = list(network.sections)
    for head in network.heads:
        # OpenCV insists on num= being the number of anchors that are written, and not all cfgs
        # have it so. No anchor has a part in what enters a head.
        count = max(getattr(head, "mask", [len(head.anchors) - 1])) + 1
        section = head.section.with_option("num", count)
        sections[head.index + 1] = section.with_option("anchors", ",".join(["1"] * 2 * count))
    text = cfg.sections_to_cfg(sections)
    net = cv2.dnn.readNetFromDarknet(
        np.frombuffer(text.encode(), np.uint8), np.frombuffer(content, np.uint8)
    )
    net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
    present = net.getLayerNames()
    names = []
    for head in network.heads:
        before = network.layers[head.index - 1]
        assert isinstance(before, cfg.Convolutional)
        assert not before.batch_normalize
        # OpenCV counts an activation as the section after its own.
        activated = f"{before.activation}_{head.index}"
        names.append(activated if before.activation != "linear" else f"conv_{before.index}")
        assert names[-1] in present
    # One by one: OpenCV's scale_channels knows no batches.
    outputs = []
    for image in pictures:
        net.setInput(image.transpose(2, 0, 1)[None])
        outputs.append(net.forward(names))
    return [np.concatenate(head).transpose(0, 2, 3, 1) for head in zip(*outputs, strict=True)]


def heads_of(model, pictures):
    """The model's heads as a list; Keras hands out a single one without it."""
    heads = model(pictures, training=False)
    return heads if isinstance(heads, list) else [heads]


def assert_same_heads(network, ours, theirs):
    assert len(ours) == len(theirs) == len(network.heads) > 0
    for head, actual, expected in zip(network.heads, ours, theirs, strict=True):
        actual = np.asarray(actual)
        assert actual.shape == expected.shape == (2, *head.input_shape)
        largest = np.abs(expected).max()
        assert expected.std() > 1e-2 * largest, "a head that is constant proves nothing"
        if network.layers[head.index - 1].activation == "logistic":
            assert np.median(np.abs(expected - 0.5)) < 0.49, "nor one of zeros and ones"
        assert np.abs(actual - expected).max() <= TOLERANCE * largest


def small(path):
    """The network on a picture of few pixels, wider than high."""
    size = 128 if path.stem.startswith(DEEP) else 64
    return cfg.parse_cfg(path, size=(size, 2 * size))


def thin(network):
    """The same wiring with an eighth of the filters, and of the groups, everywhere but in heads."""
    before_heads = {head.index - 1 for head in network.heads}
    sections = list(network.sections)
    for layer in network.layers:
        if isinstance(layer, cfg.Convolutional) and layer.index not in before_heads:
            section = layer.section.with_option("filters", max(1, layer.filters // 8))
            if layer.groups > 1:
                section = section.with_option("groups", max(1, layer.groups // 8))
            sections[layer.index + 1] = section
    return cfg.resolve(sections, source=network.source)


def pair_names():
    return [pair["name"] for pair in helpers.shared_json("corpus/pairs/pairs.json")]


def check_random_file(network):
    text = network.to_cfg()
    model = build_model(network)
    content = calibrated_file(network, model)
    used = numpy_loader.load(model, text, content)
    assert used * 4 + 20 == len(content)
    pictures = np.random.default_rng(1).random((2, *network.input_shape), dtype=np.float32)
    ours = heads_of(model, pictures)
    assert_same_heads(network, ours, opencv_heads(network, content, pictures))


@pytest.mark.parametrize("path", helpers.cfg_params(helpers.must_cfgs))
def test_heads_of_random_weights_are_those_of_opencv(path):
    is_large = layout.floats(cfg.parse_cfg(path)) > LARGEST
    check_random_file(thin(small(path)) if is_large else small(path))


@pytest.mark.parametrize("name", helpers.shared_params(pair_names, str))
def test_heads_of_a_real_file_are_those_of_opencv(name, shared):
    network = cfg.parse_cfg(shared / f"corpus/pairs/{name}.cfg")
    content = (shared / f"corpus/pairs/{name}.weights").read_bytes()
    model = build_model(network)
    numpy_loader.load(model, network.to_cfg(), content)
    for layer in model.layers:
        if layer.name.endswith("_bn"):
            layer.moving_variance.assign_sub(np.full(layer.moving_variance.shape, 9e-6, "float32"))
    pictures = np.random.default_rng(1).random((2, *network.input_shape), dtype=np.float32)
    ours = heads_of(model, pictures)
    assert_same_heads(network, ours, opencv_heads(network, content, pictures))


# Dense layers, crops, scaled channels and global means, which no detector above has all of.
CLASSIFIERS = {
    "tiny": (96, 128),
    "cifar": None,
    "efficientnet_b0": (96, 128),
    "extraction.conv": None,
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_answers_of_classifiers_are_those_of_opencv(name, shared):
    network = cfg.parse_cfg(shared / f"cfg/{name}.cfg", size=CLASSIFIERS[name])
    text = network.to_cfg()
    model = build_model(network)
    content = calibrated_file(network, model)
    numpy_loader.load(model, text, content)
    picture = np.random.default_rng(1).random((1, *network.input_shape), dtype=np.float32)
    net = cv2.dnn.readNetFromDarknet(
        np.frombuffer(text.encode(), np.uint8), np.frombuffer(content, np.uint8)
    )
    net.setInput(picture.transpose(0, 3, 1, 2))
    # Both end in a softmax; its logarithm tells apart what is close to nothing.
    theirs = np.log(net.forward().ravel())
    ours = np.log(np.asarray(model(picture, training=False)).ravel())
    assert ours.shape == theirs.shape
    assert theirs.std() > 0.05
    assert np.abs(ours - theirs).max() <= TOLERANCE * np.abs(theirs).max()
