#!/usr/bin/env bash
# openvino 2026.4.1: a 1x1 Conv with stride 2 and padding 1, after a Relu or a Conv, has an output of
# the wrong size. onnxruntime 1.32.0 computes what the ONNX operator says.
#
# OpenVINO moves the stride of a 1x1 convolution to the operation before it, so that less is
# computed, and leaves the padding as it is: 5x5 becomes 5x5 instead of 4x4. An explicit Pad before
# the convolution ends the same. Right as the first operation of a graph, and without padding.
# Seen: the shapes printed below.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q openvino==2026.4.1 onnxruntime==1.32.0 onnx==1.23.2
cat > "$folder/strides.py" <<'PYTHON'
import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import helper, numpy_helper


def shapes(first, padding):
    """The shape of the output in onnxruntime and in OpenVINO."""
    kernel = np.ones((2, 3, 1, 1), np.float32)
    image = np.ones((1, 3, 5, 5), np.float32)
    attributes = {"strides": [2, 2], "pads": [padding] * 4}
    nodes = [helper.make_node("Relu", ["image"], ["positive"])] if first else []
    last = "positive" if first else "image"
    nodes.append(helper.make_node("Conv", [last, "kernel"], ["output"], **attributes))
    graph = helper.make_graph(
        nodes,
        "strides",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, image.shape)],
        [helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, [1, 2, "rows", "columns"])],
        [numpy_helper.from_array(kernel, "kernel")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    content = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"image": image})
    core = openvino.Core()
    output = core.compile_model(core.read_model(content), "CPU")([image])[0]
    return expected.shape, output.shape


for first in ("Relu", None):
    for padding in (1, 0):
        expected, actual = shapes(first, padding)
        print(f"after {first}, padding {padding}: {actual} in OpenVINO, {expected} in onnxruntime")
        differs = first == "Relu" and padding == 1
        assert (actual != expected) == differs, "OpenVINO behaves differently now"
PYTHON
"$folder/venv/bin/python" "$folder/strides.py"
