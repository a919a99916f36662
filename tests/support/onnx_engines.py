"""Networks as ONNX files, and their outputs in three engines that are independent of yolotf."""

import contextlib

import cv2
import numpy as np
import onnx
import onnxruntime
import openvino

from support import weights_files
from yolotf.darknet import stock
from yolotf.errors import CfgError
from yolotf.formats.convert import convert
from yolotf.runtime.network import RuntimeNetwork
from yolotf.weights import layout

TOLERANCE = 1e-4


def tame_file(network, seed=0):
    """Writes random weights with which activations neither vanish nor explode in deep networks.

    Kernels are scaled so that the spread of values stays the same. Variances are so large that
    epsilon makes no difference, and gammas compensate for them.
    """
    random = np.random.default_rng(seed)
    arrays = []
    for segment in layout.segments(network):
        values = random.standard_normal(segment.count, np.float32)
        match segment.role:
            case "kernel":
                values *= np.sqrt(1.6 * segment.shape[0] / segment.count, dtype=np.float32)
            case "gamma":
                values = 10 + values
            case "moving_variance":
                values = 100 + 10 * np.abs(values)
            case _:
                values *= 0.1
        arrays.append(values)
    return weights_files.content(*arrays)


def pictures_for(network, batch=2, seed=1):
    """Returns images, [batch, channels, height, width]."""
    height, width, channels = network.input_shape
    shape = (batch, channels, height, width)
    return np.random.default_rng(seed).random(shape, np.float32)


def by_onnxruntime(path, pictures, **others):
    """Returns the outputs by name."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"images": pictures, **others}), strict=True))


def by_openvino(path, pictures, **others):
    """Returns the outputs by name."""
    core = openvino.Core()
    model = core.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    outputs = model({"images": pictures, **others})
    return {output.get_any_name(): outputs[output] for output in model.outputs}


def by_opencv(path, pictures, **others):
    """Returns the outputs by name."""
    net = cv2.dnn.readNetFromONNX(str(path))
    net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
    for name, values in {"images": pictures, **others}.items():
        net.setInput(values, name)
    names = [output.name for output in onnx.load(path, load_external_data=False).graph.output]
    return dict(zip(names, net.forward(names), strict=True))


ENGINES = {"onnxruntime": by_onnxruntime, "openvino": by_openvino, "opencv": by_opencv}


def runtime_heads(network, weights, pictures):
    """Returns the raw heads of TensorFlow's kernels, channels first."""
    engine, loaded = RuntimeNetwork.opened(network, weights)
    heads = engine.raw_heads(np.ascontiguousarray(pictures.transpose(0, 2, 3, 1)), loaded)
    return [head.transpose(0, 3, 1, 2) for head in heads]


def assert_close(actual, expected):
    """Compares two lists of heads."""
    assert [head.shape for head in actual] == [head.shape for head in expected]
    for head, expected_head in zip(actual, expected, strict=True):
        largest = np.abs(expected_head).max()
        assert expected_head.std() > 1e-4 * largest > 0, "a constant proves nothing"
        assert np.abs(head - expected_head).max() <= TOLERANCE * largest


def check(network, folder, engines=tuple(ENGINES), batch=2, content=None):
    """Asserts that every engine agrees with the runtime on a file of `convert`, for any batch."""
    weights, path = folder / "a.weights", folder / "a.onnx"
    weights.write_bytes(tame_file(network) if content is None else content)
    convert(weights, network, path)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    pictures = pictures_for(network, batch)
    expected = runtime_heads(network, weights, pictures)
    for name in engines:
        assert_close(list(ENGINES[name](path, pictures).values()), expected)
    return model


def small(name):
    """Returns a stock network for small images, wider than high."""
    for pixels in (64, 128, 224):
        with contextlib.suppress(CfgError):
            return stock.network(name, size=(pixels, 2 * pixels))
    return stock.network(name)
