"""Darknet's loss against its loops in plain Python, and networks that learn by it."""

import numpy as np
import pytest
import tensorflow as tf

import yolotf
from support import yolo_loss_by_hand as hand
from support.cfgs import conv, net, normalized, yolo
from support.messages import refused
from yolotf.models.keras_module import keras

pytestmark = pytest.mark.slow

ANCHORS = [(10, 14), (23, 27), (37, 58), (12, 12)]
TRUTHS = [
    # Two in one cell, of two classes; one cut by the edge; one of an unknown class.
    [
        [0, 0.31, 0.4, 0.2, 0.3],
        [2, 0.33, 0.42, 0.22, 0.28],
        [1, 0.97, 0.9, 0.5, 0.6],
        [7, 0.5, 0.5, 0.2, 0.2],
        [1, 0.6, 0.2, 0.12, 0.11],
        [0, 0, 0, 0, 0],
        [0, 0.5, 0.5, 0.2, 0.2],  # behind the end
    ],
    [[1, 0.5, 0.5, 0.15, 0.12]] + [[0, 0, 0, 0, 0]] * 6,
]
OPTIONS = {
    "defaults": {},
    "yolov4": {
        "scale_x_y": 1.05, "iou_loss": "ciou", "iou_normalizer": 0.07, "ignore_thresh": 0.7,
        "iou_thresh": 0.213, "max_delta": 5, "cls_normalizer": 3,
    },
    "giou": {"iou_loss": "giou", "iou_thresh": 0.4, "iou_thresh_kind": "giou"},
    "diou": {"iou_loss": "diou", "obj_normalizer": 0.4, "scale_x_y": 2},
    "iou": {"iou_loss": "iou", "max_delta": 0.5},
    "smooth": {"objectness_smooth": 1, "ignore_thresh": 0.05, "label_smooth_eps": 0.1},
    "new coordinates": {
        "new_coords": 1, "scale_x_y": 2, "iou_loss": "ciou", "objectness_smooth": 1,
        "iou_thresh": 0.2, "ignore_thresh": 0.1,
    },
    "new coordinates, squares": {"new_coords": 1, "scale_x_y": 2},
}  # fmt: skip


def network_of(options, mask=(0, 1, 3), classes=3, size=(48, 64)):
    anchors = ", ".join(f"{width},{height}" for width, height in ANCHORS)
    activation = "logistic" if options.get("new_coords") else "linear"
    head = yolo(classes, anchors, ",".join(map(str, mask)), num=len(ANCHORS), **options)
    filters = conv(len(mask) * (5 + classes)).replace("linear", activation)
    return yolotf.parse_cfg(net(*size) + normalized(4, 3, stride=16) + filters + head)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
@pytest.mark.parametrize("spread", [0.3, 1.5])
def test_loss_and_gradient_match_darknet(options, spread):
    network = network_of(options)
    (loss,) = yolotf.yolo_losses(network)
    random = np.random.default_rng(0)
    raw = random.normal(0, spread, (2, 3, 4, 24)).astype(np.float32)
    if options.get("new_coords"):
        raw = 1 / (1 + np.exp(-raw))  # the convolution before the head has done it
    expected = hand.deltas(
        raw, np.array(TRUTHS, np.float32), ANCHORS, [0, 1, 3], (64, 48), 3, **options
    ).reshape(raw.shape)
    assert np.count_nonzero(expected) > 50
    variable = tf.Variable(raw)
    with tf.GradientTape() as tape:
        value = loss(np.array(TRUTHS, np.float32), variable)
        total = tf.reduce_sum(value * [1.0, 3.0])
    np.testing.assert_allclose(
        loss.delta(tf.constant(TRUTHS), tf.constant(raw)), expected, rtol=2e-4, atol=2e-5
    )
    np.testing.assert_allclose(value, (expected**2).sum((1, 2, 3)), rtol=1e-3)
    wanted = -expected * np.array([1, 3])[:, None, None, None]
    np.testing.assert_allclose(tape.gradient(total, variable), wanted, rtol=2e-4, atol=1e-4)


def test_an_image_without_boxes_has_objectness_alone():
    (loss,) = yolotf.yolo_losses(network_of({}))
    delta = loss.delta(tf.zeros((1, 4, 5)), tf.zeros((1, 3, 4, 24))).numpy().reshape(1, 3, 4, 3, 8)
    np.testing.assert_allclose(delta[..., 4], -0.5)
    delta[..., 4] = 0
    assert not delta.any()


@pytest.mark.parametrize(
    "options",
    [
        {"focal_loss": 1},
        {"counters_per_class": "1,2,3"},
        {"truth_thresh": 0.9},
    ],
)
def test_unsupported_losses_are_refused(options):
    with refused(yolotf.UnsupportedSectionError):
        yolotf.yolo_losses(network_of(options))


def test_networks_without_yolo_heads_are_refused():
    with refused(yolotf.UnsupportedSectionError):
        yolotf.yolo_losses(yolotf.parse_cfg(net(16) + conv(4)))
    with refused(yolotf.UnsupportedSectionError):
        yolotf.yolo_losses(yolotf.network("yolov2-tiny"))


def scenes(count, random):
    """Images with one light square each, and the truths."""
    images = random.uniform(0, 0.3, (count, 48, 64, 3)).astype(np.float32)
    truths = np.zeros((count, 2, 5), np.float32)
    for image, truth in zip(images, truths, strict=True):
        half = int(random.integers(5, 9))
        x, y = int(random.integers(half, 64 - half)), int(random.integers(half, 48 - half))
        image[y - half : y + half, x - half : x + half] = 0.9
        truth[0] = 1, x / 64, y / 48, 2 * half / 64, 2 * half / 48
    return images, truths


@pytest.mark.parametrize("start", ["nothing", "a backbone"])
def test_a_network_learns(start, tmp_path):
    keras().utils.set_random_seed(0)
    text = net(48, 64)
    for filters in (8, 16, 16, 32):
        text += normalized(filters, 3, stride=2)
    head = yolo(2, iou_loss="ciou", scale_x_y=1.05, iou_normalizer=0.07, iou_thresh=0.213)
    network = yolotf.parse_cfg(text + normalized(32, 3) + conv(21) + head)
    model = yolotf.build_model(network)
    if start == "a backbone":
        yolotf.save_darknet_weights(model, tmp_path / "some.conv.3", upto=3)
        model = yolotf.build_model(network, weights=tmp_path / "some.conv.3")
    before = model.get_layer("conv_5").kernel.numpy()
    images, truths = scenes(64, np.random.default_rng(0))
    model.compile(keras().optimizers.Adam(3e-3), loss=yolotf.yolo_losses(network)[0])
    losses = model.fit(images, truths, batch_size=16, epochs=12, verbose=0).history["loss"]
    assert losses[-1] < 0.35 * losses[0], losses
    for name in ("conv_3", "conv_4", "conv_5"):
        assert model.get_layer(name).kernel.numpy().any()
    assert (model.get_layer("conv_5").kernel.numpy() != before).any()
    yolotf.save_darknet_weights(model, tmp_path / "trained.weights")
    again = yolotf.build_model(network, weights=tmp_path / "trained.weights")
    np.testing.assert_allclose(
        again.predict(images[:2], verbose=0), model.predict(images[:2], verbose=0), atol=1e-5
    )
