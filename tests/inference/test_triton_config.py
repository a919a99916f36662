"""The config.pbtxt of the page on Triton match the models they serve."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

import yolotf
from support.cfgs import conv, net, normalized, yolo
from support.helpers import write_weights

PAGE = Path(__file__).parents[2] / "docs/triton.md"
TYPES = {
    "TYPE_UINT8": tf.uint8,
    "TYPE_STRING": tf.string,
    "TYPE_FP32": tf.float32,
    "TYPE_INT32": tf.int32,
    "TYPE_INT64": tf.int64,
    "TYPE_BOOL": tf.bool,
}
TENSOR = re.compile(
    r'\{ name: "(\w+)" data_type: (\w+) dims: \[([^\]]*)\]'
    r"(?: reshape: \{ shape: \[([^\]]*)\] \})? \}"
)


def tensors(block: str, kind: str) -> dict[str, tuple[Any, list[int]]]:
    """Type and shape behind the batch's axis, as the model gets and gives them."""
    _, _, rest = block.partition(f"{kind} [")
    part = rest.split("\n]")[0] if "\n]" in rest else rest.split("] ]")[0] + "] ]"
    part = part.split("\noutput")[0].split("\nparameters")[0]
    by_name = {}
    for name, dtype, dims, reshape in TENSOR.findall(part):
        assert dims.strip(), f"{name}: Triton wants one number or more"
        has_reshape = re.search(rf'"{name}"[^}}]*reshape', part) is not None
        numbers = reshape if has_reshape else dims
        by_name[name] = TYPES[dtype], [int(text) for text in numbers.split(",") if text.strip()]
    return by_name


@pytest.fixture(scope="module")
def signatures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("triton")
    text = net(32) + normalized(8, 3, stride=2) + conv(18) + yolo()
    write_weights(folder / "a.weights", yolotf.parse_cfg(text))
    yolotf.Detector(text, folder / "a.weights").export(folder / "export")
    return tf.saved_model.load(str(folder / "export")).signatures


def shapes(specs: dict[str, Any]) -> dict[str, tuple[Any, list[int]]]:
    return {
        name: (spec.dtype, [-1 if extent is None else extent for extent in spec.shape[1:]])
        for name, spec in specs.items()
    }


def assert_fits(named: dict[str, Any], exported: dict[str, Any]) -> None:
    for name, (dtype, dims) in named.items():
        wanted_dtype, wanted = exported[name]
        assert dtype == wanted_dtype
        assert len(dims) == len(wanted)
        assert all(
            -1 in (extent, other) or extent == other
            for extent, other in zip(dims, wanted, strict=True)
        )


def blocks() -> list[str]:
    """The configs of the page: of two ONNX files, and of both signatures of an export."""
    pattern = r"```text\n((?:name: |input \[).*?)```"
    return re.findall(pattern, PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_every_tensor_of_the_onnx_file_is_named_with_its_type_and_shape(official_tiny, tmp_path):
    onnx = pytest.importorskip("onnx", reason="needs onnx")
    yolotf.convert(official_tiny.weights, "yolov4-tiny", tmp_path / "model.onnx", decode=True)
    graph = onnx.load(tmp_path / "model.onnx").graph
    block, *_ = blocks()
    assert 'platform: "onnxruntime_onnx"' in block
    for kind, values in (("input", graph.input), ("output", graph.output)):
        read = {}
        for value in values:
            tensor = value.type.tensor_type
            batch, *extents = tensor.shape.dim
            assert batch.dim_param  # any number, as max_batch_size wants
            dtype = tf.as_dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
            read[value.name] = dtype, [extent.dim_value for extent in extents]
        assert tensors(block, kind) == read


def test_the_config_of_suppressed_detections_has_no_batch(official_tiny, tmp_path):
    onnx = pytest.importorskip("onnx", reason="needs onnx")
    yolotf.convert(official_tiny.weights, "yolov4-tiny", tmp_path / "model.onnx", suppress=True)
    graph = onnx.load(tmp_path / "model.onnx").graph
    _, block, *_ = blocks()
    assert "max_batch_size: 0\n" in block
    for kind, values in (("input", graph.input), ("output", graph.output)):
        read = {}
        for value in values:
            tensor = value.type.tensor_type
            dtype = tf.as_dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
            read[value.name] = dtype, [extent.dim_value or -1 for extent in tensor.shape.dim]
        assert tensors(block, kind) == read


@pytest.mark.slow
def test_every_tensor_is_named_with_its_type_and_shape(signatures):
    _, _, plain, encoded = blocks()
    served = signatures["serving_default"]
    outputs = shapes(served.structured_outputs)
    assert tensors(plain, "output").keys() == outputs.keys()
    assert_fits(tensors(plain, "output"), outputs)
    assert_fits(tensors(plain, "input"), shapes(served.structured_input_signature[1]))
    served = signatures["encoded"]
    more = tensors(encoded, "output")
    assert {*more, *outputs} == set(served.structured_outputs)
    assert_fits(more, shapes(served.structured_outputs))
    assert_fits(tensors(encoded, "input"), shapes(served.structured_input_signature[1]))
    assert '"TF_SIGNATURE_DEF"' in encoded
