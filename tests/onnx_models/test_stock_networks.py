"""Every stock network as ONNX, run by onnxruntime, OpenVINO and OpenCV's importer."""

import pytest
from test_opencv_heads import thin

from support.onnx_engines import check, small
from yolotf.darknet import stock

pytestmark = pytest.mark.slow

SMALLEST = ("yolov4-tiny", "yolov3-tiny-prn", "yolov2-tiny", "yolov7-tiny", "enet-coco", "tiny")
"""Compared as they are; all others with an eighth of their filters, which is the same graph."""


@pytest.mark.parametrize("name", SMALLEST)
def test_engines_compute_what_the_runtime_does(name, tmp_path):
    model = check(small(name), tmp_path)
    kinds = [node.op_type for node in model.graph.node]
    assert "Transpose" not in kinds or "reorg" in stock.network(name).to_cfg()


@pytest.mark.parametrize("name", [*stock.NAMES, *stock.CLASSIFIERS])
def test_engines_compute_what_the_runtime_does_in_thin_networks(name, tmp_path):
    network = thin(small(name))
    model = check(network, tmp_path)
    upsamplings = network.to_cfg().count("[upsample]")
    assert [node.op_type for node in model.graph.node].count("Resize") == upsamplings
