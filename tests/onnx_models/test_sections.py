"""Every kind of section as ONNX: engines against the runtime, and the graphs themselves."""

import contextlib
import random

import numpy as np
import onnx
import pytest

from support import numpy_loader, weights_files
from support import recurrent_by_hand as hand
from support.cfgs import conv, net, normalized, section
from support.messages import refused
from support.networks_of_sections import SECTIONS, SMALL, around
from support.onnx_engines import (
    ENGINES,
    assert_close,
    by_onnxruntime,
    by_openvino,
    check,
    pictures_for,
    runtime_heads,
)
from yolotf.darknet.cfg import Head, parse_cfg
from yolotf.darknet.graph_checks import used_layers
from yolotf.darknet.layer import SECTIONS as CLASSES
from yolotf.errors import CfgError, UnsupportedSectionError
from yolotf.formats.convert import convert
from yolotf.onnx.model import describe


def kinds(model):
    return [node.op_type for node in model.graph.node]


def written(text, folder, seed=0, **options):
    """The model of a cfg, as convert writes it; and the file of weights."""
    weights, path = folder / "a.weights", folder / "a.onnx"
    weights.write_bytes(numpy_loader.random_file(text, seed))
    convert(weights, parse_cfg(text), path, **options)
    return onnx.load(path), path, weights


@pytest.mark.slow
@pytest.mark.parametrize("name", SECTIONS)
def test_engines_compute_what_the_runtime_does(name, tmp_path):
    text = around(SECTIONS[name])
    # OpenCV takes no input away, and this output does not depend on it.
    engines = [engine for engine in ENGINES if (name, engine) != ("implicit", "opencv")]
    content = numpy_loader.random_file(text, seed=len(text))
    model = check(parse_cfg(text), tmp_path, engines, content=content)
    moved = ("reorg", "softmax", "connected", "local", "implicit")
    assert "Transpose" not in kinds(model) or name.startswith(moved)


def following(name):
    """Returns the name of a section that may follow; engines optimize some pairs wrongly."""
    others = [other for other in SECTIONS if other != "normalization"]  # its powers may be NaN
    random.Random(name).shuffle(others)
    for other in others:
        with contextlib.suppress(CfgError, UnsupportedSectionError):
            describe(parse_cfg(around(f"{SECTIONS[name]}\n{SECTIONS[other]}")))
            return other
    raise AssertionError(f"nothing may follow {name}")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SECTIONS if name != "normalization"])
def test_engines_compute_pairs_of_sections(name, tmp_path):
    network = parse_cfg(around(f"{SECTIONS[name]}\n{SECTIONS[following(name)]}"))
    check(network, tmp_path, ["onnxruntime", "openvino"])


def test_every_class_of_section_is_written_or_ends_a_network(tmp_path):
    networks = [parse_cfg(around(text)) for text in SECTIONS.values()]
    networks += [hand.case(name, tmp_path / "a.weights")[0] for name in hand.ALL]
    described = set()
    for network in networks:
        assert describe(network).operations
        described |= {type(network.layers[index]) for index in used_layers(network)}
    classes = {cls for cls in CLASSES.values() if not issubclass(cls, Head)}
    assert described == classes


@pytest.mark.slow
@pytest.mark.parametrize("name", hand.ALL)
def test_recurrent_states_are_inputs_and_outputs(name, tmp_path):
    network, weights, expected = hand.case(name, tmp_path / "a.weights")
    path = tmp_path / "a.onnx"
    convert(weights, network, path)
    model = onnx.load(path)
    _, *entering = [tensor.name for tensor in model.graph.input]
    answers = {}
    for engine in (by_onnxruntime, by_openvino):
        shapes = {
            tensor.name: [dim.dim_value for dim in tensor.type.tensor_type.shape.dim]
            for tensor in model.graph.input
        }
        states = {key: np.zeros(shapes[key], np.float32) for key in entering}
        outputs_of_frames = []
        for frame in hand.frames():
            pictures = np.ascontiguousarray(frame.transpose(2, 0, 1)[None])
            head, *after = engine(path, pictures, **states).values()
            states = dict(zip(entering, after, strict=True))
            outputs_of_frames.append(head.transpose(0, 2, 3, 1))
        answers[engine] = np.concatenate(outputs_of_frames)
        np.testing.assert_allclose(answers[engine], expected, rtol=2e-5, atol=5e-6)
    outputs = [tensor.name for tensor in model.graph.output]
    assert [name.replace("_in", "_out") for name in entering] == outputs[1:]


def test_the_graph_has_the_names_of_the_sections_and_nothing_is_left_over(tmp_path):
    model, _, _ = written(SMALL, tmp_path)
    assert [tensor.name for tensor in model.graph.output] == ["conv_4", "conv_9"]
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    for name, kind in (
        ("conv_0/Conv", "Conv"),
        ("conv_0", "LeakyRelu"),
        ("conv_1", "Mul"),
        ("maxpool_2", "MaxPool"),
        ("upsample_7", "Resize"),
        ("route_8", "Concat"),
        ("conv_4", "Conv"),
    ):
        (node,) = [candidate for candidate in model.graph.node if candidate.name == name]
        assert (node.op_type, list(node.output)) == (kind, [name])
    assert {tensor.name for tensor in model.graph.initializer} >= {"conv_0/kernel", "conv_0/bias"}
    # A convolution has its bias; nothing is turned round.
    assert {"Add", "Transpose", "Shape", "BatchNormalization"}.isdisjoint(kinds(model))
    assert all(len(node.input) == 3 for node in model.graph.node if node.op_type == "Conv")
    produced = {name for node in model.graph.node for name in node.output}
    taken = {name for node in model.graph.node for name in node.input}
    assert produced - taken == {"conv_4", "conv_9"}
    assert {tensor.name for tensor in model.graph.initializer} <= taken


def test_batch_dimension_has_one_symbol_in_inputs_and_outputs(tmp_path):
    model, _, _ = written(SMALL, tmp_path)
    ends = [*model.graph.input, *model.graph.output]
    firsts = [tensor.type.tensor_type.shape.dim[0].dim_param for tensor in ends]
    assert firsts == ["batch"] * 3
    model, _, _ = written(SMALL, tmp_path, batch_size=4)
    for tensor in (*model.graph.input, *model.graph.output):
        assert tensor.type.tensor_type.shape.dim[0].dim_value == 4


def test_layout_nhwc_puts_channels_last(tmp_path):
    _, path, weights = written(SMALL, tmp_path, layout="NHWC")
    network = parse_cfg(SMALL)
    pictures = pictures_for(network)
    expected = runtime_heads(network, weights, pictures)
    last = np.ascontiguousarray(pictures.transpose(0, 2, 3, 1))
    for engine in (by_onnxruntime, by_openvino):
        outputs = [output.transpose(0, 3, 1, 2) for output in engine(path, last).values()]
        assert_close(outputs, expected)
    assert kinds(onnx.load(path)).count("Transpose") == 3


@pytest.mark.parametrize("text", [SMALL, net(32, 64) + conv(8, 3, stride=2) + conv(6)])
def test_any_size_models_run_at_every_size(text, tmp_path):
    model, path, weights = written(text, tmp_path, any_size=True)
    (picture,) = model.graph.input
    dims = [dim.dim_param or dim.dim_value for dim in picture.type.tensor_type.shape.dim]
    assert dims == ["batch", 3, "height", "width"]
    assert "Shape" not in kinds(model)
    for size in ((32, 64), (64, 96)):
        network = parse_cfg(text, size=size)
        pictures = pictures_for(network, batch=1)
        expected = runtime_heads(network, weights, pictures)
        for engine in (by_onnxruntime, by_openvino):
            assert_close(list(engine(path, pictures).values()), expected)


def test_shortcuts_between_sizes_for_any_size(tmp_path):
    text = net(32) + conv(8, 3) + conv(8, 3, stride=2) + section("shortcut", **{"from": 0})
    _, path, weights = written(text, tmp_path, any_size=True)
    network = parse_cfg(text, size=(64, 48))
    pictures = pictures_for(network)
    expected = runtime_heads(network, weights, pictures)
    for engine in (by_onnxruntime, by_openvino):
        assert_close(list(engine(path, pictures).values()), expected)


def test_sizes_that_are_fixed_are_refused_by_name(tmp_path):
    text = net(32) + conv(8, 3, stride=2) + "[reorg]\nstride=2\n" + conv(6)
    with refused(UnsupportedSectionError) as error:
        written(text, tmp_path, any_size=True)
    assert (error.value.layer, error.value.section) == (1, "reorg")
    with refused(UnsupportedSectionError):
        written(net(30) + conv(8, 3, stride=4) + conv(6), tmp_path, any_size=True)
    assert not (tmp_path / "a.onnx").exists()


def test_two_heads_on_one_section_have_two_outputs(tmp_path):
    text = SMALL + "[route]\nlayers=9\n" + SMALL[SMALL.rindex("[yolo]") :]
    model, path, weights = written(text, tmp_path)
    names = [tensor.name for tensor in model.graph.output]
    assert names[:2] == ["conv_4", "conv_9"]
    assert len(set(names)) == 3
    network = parse_cfg(text)
    pictures = pictures_for(network)
    expected = runtime_heads(network, weights, pictures)
    assert_close(list(by_onnxruntime(path, pictures).values()), expected)


def test_unsupported_sections_are_refused_with_their_line(tmp_path):
    text = net(32) + conv(8, 3, dontload=1) + conv(6)
    with refused(UnsupportedSectionError) as error:
        describe(parse_cfg(text))
    assert error.value.line == text.splitlines().index("dontload=1") + 1


def test_constant_expressions_are_folded(tmp_path):
    """OpenCV and TensorRT want to see numbers where a kernel is."""
    for name in ("xnor", "flipped", "shortcut_per_channel", "local_avgpool"):
        model, _, _ = written(around(SECTIONS[name]), tmp_path)
        constants = {tensor.name for tensor in model.graph.initializer}
        for node in model.graph.node:
            assert not constants.issuperset(node.input), f"{name}: {node.name}"
        assert all(
            node.input[1] in constants for node in model.graph.node if node.op_type == "Conv"
        )


@pytest.mark.parametrize("major", [0, 1001])
def test_dense_kernels_of_either_order(major, tmp_path):
    """Files of a version above 1000 have them turned (parser.c:2274)."""
    text = net(4) + conv(2, 3) + section("connected", output=5, activation="leaky") + conv(3)
    content = bytearray(numpy_loader.random_file(text, 1))
    network = parse_cfg(text)
    path = tmp_path / "a.onnx"
    plain, turned = tmp_path / "plain.weights", tmp_path / "turned.weights"
    plain.write_bytes(content)
    arrays = numpy_loader.arrays(text, bytes(content))
    parts = [values.T if major and values.ndim == 2 else values for values in arrays.values()]
    weights_files.write(turned, *parts, header=weights_files.header(version=(major, 2, 5)))
    convert(turned, network, path)
    pictures = pictures_for(network)
    expected = runtime_heads(network, plain, pictures)
    assert_close(list(by_onnxruntime(path, pictures).values()), expected)


def test_numbers_are_bit_for_bit_those_of_the_runtime(tmp_path):
    """Kernels as OIHW, a batch normalization folded in by the same arithmetic."""
    from yolotf.runtime.network import RuntimeNetwork

    model, _, weights = written(SMALL, tmp_path)
    constants = {
        tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer
    }
    engine, loaded = RuntimeNetwork.opened(parse_cfg(SMALL), weights)
    for key, array in engine.hwio_weights(loaded).items():
        index, role = key.split("/")
        stored = constants[f"conv_{index}/{role}"]
        if role == "kernel":
            stored = stored.transpose(2, 3, 1, 0).reshape(array.shape)
        np.testing.assert_array_equal(stored, array)


def test_normalized_dense_layers_are_folded(tmp_path):
    text = net(4) + normalized(2, 3) + section("connected", output=5, batch_normalize=1) + conv(3)
    model, path, weights = written(text, tmp_path)
    network = parse_cfg(text)
    pictures = pictures_for(network)
    expected = runtime_heads(network, weights, pictures)
    assert_close(list(by_onnxruntime(path, pictures).values()), expected)
    assert kinds(model).count("Gemm") == 1
