"""Boxes, scores and detections of ONNX models, against what else decodes."""

import numpy as np
import onnx
import pytest
from test_opencv_heads import thin

from support import numpy_loader
from support.cfgs import conv, net
from support.messages import refused
from support.networks_of_sections import SMALL
from support.onnx_engines import by_onnxruntime, by_openvino, pictures_for, small, tame_file
from yolotf.darknet import cfg
from yolotf.darknet.decoding import Suppression, tree_of_heads
from yolotf.errors import YolotfError
from yolotf.formats.convert import convert
from yolotf.graphs.decode import decode_head
from yolotf.runtime.decoding import Decoder

CLOSE = {"rtol": 2e-5, "atol": 2e-5}
REGION = "anchors=1,2, 3,4\nclasses=7\nnum=2\ncoords=4\n"
HEADS = {
    "region": conv(24) + "[region]\n" + REGION + "softmax=1\n",
    "region of plain numbers": conv(24) + "[region]\n" + REGION + "classfix=-1\n",
    "version 1": conv(3 * 5 + 7) + "[detection]\nside=2\nclasses=7\nnum=3\ncoords=4\nsqrt=1\n"
    "softmax=1\n",
    "deviations": conv(2 * 16) + "[Gaussian_yolo]\nmask=0,1\nanchors=10,14, 9,30\nclasses=7\n"
    "num=2\nyolo_point=left_top\nscale_x_y=1.1\n",
    "new coordinates": conv(2 * 12, activation="logistic")
    + "[yolo]\nmask=0,1\nanchors=10,14, 9,30\nclasses=7\nnum=2\nnew_coords=1\nscale_x_y=2\n",
}


def networks():
    yield "small", cfg.parse_cfg(SMALL)
    for name, text in HEADS.items():
        size = 4 if name == "version 1" else 32
        yield name, cfg.parse_cfg(net(size) + conv(8, 3, stride=2) + text)
    for name in ("yolov4-csp", "yolov3-tiny", "Gaussian_yolov3_BDD", "yolov2-tiny"):
        yield name, thin(small(name))


def decoded(heads, network, size):
    """Boxes as corners, and scores, of raw heads with their channels first."""
    tree = tree_of_heads(network)
    boxes, scores = [], []
    for raw, head in zip(heads, network.heads, strict=True):
        decoded = decode_head(raw.transpose(0, 2, 3, 1), head, size, tree)
        centre, extent = np.split(np.asarray(decoded.boxes), 2, -1)
        boxes.append(np.concatenate([centre - extent / 2, centre + extent / 2], -1))
        objectness = np.asarray(decoded.objectness)[..., None]
        scores.append(np.asarray(decoded.probabilities) * (1 if tree else objectness))
    return np.concatenate(boxes, 1), np.concatenate(scores, 1)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "network"), list(networks()))
def test_boxes_and_scores_are_those_of_the_functions(name, network, tmp_path):
    weights, raw, path = tmp_path / "a.weights", tmp_path / "raw.onnx", tmp_path / "a.onnx"
    weights.write_bytes(tame_file(network))
    convert(weights, network, raw)
    convert(weights, network, path, decode=True)
    pictures = pictures_for(network)
    heads = list(by_onnxruntime(raw, pictures).values())
    boxes, scores = decoded(heads, network, network.input_shape[:2])
    shapes = {
        tensor.name: [dim.dim_param or dim.dim_value for dim in tensor.type.tensor_type.shape.dim]
        for tensor in onnx.load(path).graph.output
    }
    assert shapes == {"boxes": ["batch", *boxes.shape[1:]], "scores": ["batch", *scores.shape[1:]]}
    likely = np.abs(boxes) < 10  # sides grow as exp, and with them what engines round off
    assert likely.mean() > 0.5
    for engine in (by_onnxruntime, by_openvino):
        outputs = engine(path, pictures)
        np.testing.assert_allclose(outputs["boxes"][likely], boxes[likely], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(outputs["scores"], scores, **CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize("text", [SMALL, net(32, 64) + conv(8, 3, stride=2) + HEADS["region"]])
def test_boxes_of_pictures_of_any_size(text, tmp_path):
    weights, raw, path = tmp_path / "a.weights", tmp_path / "raw.onnx", tmp_path / "a.onnx"
    weights.write_bytes(numpy_loader.random_file(text))
    convert(weights, text, raw, any_size=True)
    convert(weights, text, path, any_size=True, decode=True)
    dims = onnx.load(path).graph.output[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["batch", "boxes", 4]
    for size in ((64, 32), (96, 128)):
        network = cfg.parse_cfg(text, size=size)
        pictures = pictures_for(network)
        boxes, scores = decoded(list(by_onnxruntime(raw, pictures).values()), network, size)
        for engine in (by_onnxruntime, by_openvino):
            outputs = engine(path, pictures)
            np.testing.assert_allclose(outputs["boxes"], boxes, **CLOSE)
            np.testing.assert_allclose(outputs["scores"], scores, **CLOSE)


def test_class_trees_are_decoded(tmp_path):
    (tmp_path / "a.tree").write_text("a -1\nb -1\nc 0\nd 0\ne 0\nf 3\ng 3\n")
    head = f"{HEADS['region']}tree={tmp_path / 'a.tree'}\n"
    network = cfg.parse_cfg(net(32) + conv(8, 3, stride=2) + head)
    weights, raw, path = tmp_path / "a.weights", tmp_path / "raw.onnx", tmp_path / "a.onnx"
    weights.write_bytes(numpy_loader.random_file(network.to_cfg()))
    convert(weights, network, raw)
    convert(weights, network, path, decode=True)
    pictures = pictures_for(network)
    boxes, scores = decoded(list(by_onnxruntime(raw, pictures).values()), network, (32, 32))
    assert 0 < (scores > 0).sum() <= len(scores[0]) * len(scores)
    for engine in (by_onnxruntime, by_openvino):
        outputs = engine(path, pictures)
        np.testing.assert_allclose(outputs["boxes"], boxes, **CLOSE)
        np.testing.assert_allclose(outputs["scores"], scores, **CLOSE)


def test_suppressed_detections_are_those_of_the_decoder(tmp_path):
    text = SMALL.replace("nms_kind=greedynms", "nms_kind=default")
    network = cfg.parse_cfg(text)
    weights, raw, path = tmp_path / "a.weights", tmp_path / "raw.onnx", tmp_path / "a.onnx"
    weights.write_bytes(numpy_loader.random_file(text))
    convert(weights, network, raw)
    convert(weights, network, path, suppress=True, score_threshold=0.2, iou_threshold=0.3)
    pictures = pictures_for(network, batch=3)
    heads = list(by_onnxruntime(raw, pictures).values())
    size = tuple(network.input_shape[:2])
    expected = Decoder(network, Suppression("default", 0.6))(
        [np.ascontiguousarray(head.transpose(0, 2, 3, 1)) for head in heads],
        size,
        [size] * 3,
        score_threshold=0.2,
        iou_threshold=0.3,
        max_boxes=10_000,
    )
    assert all(len(detections.scores) > 20 for detections in expected)
    for engine in (by_onnxruntime, by_openvino):
        outputs = engine(path, pictures)
        for picture, wanted in enumerate(expected):
            mine = outputs["pictures"] == picture
            order = np.argsort(-outputs["scores"][mine], kind="stable")
            np.testing.assert_array_equal(outputs["classes"][mine][order], wanted.classes)
            np.testing.assert_allclose(outputs["scores"][mine][order], wanted.scores, **CLOSE)
            scale = np.array([size[1], size[0]] * 2)
            np.testing.assert_allclose(
                outputs["boxes"][mine][order] * scale, wanted.boxes, rtol=2e-5, atol=2e-3
            )


@pytest.mark.parametrize(
    "options",
    [
        {"score_threshold": 1},
        {"iou_threshold": -0.1},
        {"max_boxes": 0},
    ],
)
def test_invalid_thresholds_are_refused(options, tmp_path):
    with refused(YolotfError):
        convert(tmp_path / "none.weights", SMALL, tmp_path / "a.onnx", suppress=True, **options)


def test_a_network_without_heads_has_no_boxes(tmp_path):
    text = net(32) + conv(8, 3)
    (tmp_path / "a.weights").write_bytes(numpy_loader.random_file(text))
    with refused(YolotfError):
        convert(tmp_path / "a.weights", text, tmp_path / "a.onnx", suppress=True)
