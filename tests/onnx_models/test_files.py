"""Models as files: what is in them, how they are written, and what stops it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import yolotf
from support import numpy_loader
from support.messages import refused, said
from support.networks_of_sections import SMALL
from support.onnx_engines import (
    assert_close,
    by_onnxruntime,
    by_openvino,
    pictures_for,
    runtime_heads,
    tame_file,
)
from yolotf import errors
from yolotf.cli import commands as cli
from yolotf.darknet.cfg import parse_cfg
from yolotf.formats import onnx as onnx_format
from yolotf.formats.convert import convert
from yolotf.onnx import file, proto
from yolotf.onnx.model import OPSET, describe
from yolotf.weights import arrays


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "a.weights"
    path.write_bytes(numpy_loader.random_file(SMALL))
    return path


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**31, 2**63 - 1, -1, -300])
def test_integers_are_those_of_protobuf(value):
    node = onnx.NodeProto.FromString(
        proto.node("Some", "name", ["a", ""], ["b"], {"number": value, "list": [value, 3]})
    )
    assert (node.op_type, node.name, list(node.input), list(node.output)) == (
        *("Some", "name"),
        *(["a", ""], ["b"]),
    )
    attributes = {
        attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute
    }
    assert attributes == {"number": value, "list": [value, 3]}


def test_attributes_of_all_kinds_come_back():
    given = {"one": 0.5, "text": "grüße", "some": [1.5, 2.0], "none": [], "flag": True}
    node = onnx.NodeProto.FromString(proto.node("Some", "", [], [], given))
    attributes = {
        attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute
    }
    assert attributes == {**given, "text": "grüße".encode(), "flag": 1}


@pytest.mark.parametrize("dtype", ["float32", "int64", "int32", "uint8", "bool"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (2, 3, 4)])
def test_tensors_come_back(dtype, shape):
    array = np.random.default_rng(1).integers(0, 2, shape).astype(dtype)
    read = onnx.TensorProto.FromString(proto.tensor("a/b", array))
    assert read.name == "a/b"
    back = onnx.numpy_helper.to_array(read)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


def test_metadata_describes_the_model(tmp_path, weights):
    names = ["a", "b c", "d", "é"]
    done = convert(weights, SMALL, tmp_path / "a.onnx", class_names=names)
    model = onnx.load(tmp_path / "a.onnx")
    assert (model.producer_name, model.producer_version) == ("yolotf", yolotf.__version__)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", OPSET)]
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata["names"].split("\n") == names
    network = parse_cfg(metadata["cfg"])
    assert [layer.type for layer in network.layers] == [
        layer.type for layer in parse_cfg(SMALL).layers
    ]
    assert done.size_bytes == (tmp_path / "a.onnx").stat().st_size
    convolutions = SMALL.count("[convolutional]")
    floats = (weights.stat().st_size - 20) // 4
    assert (done.loaded.layers, done.loaded.floats) == (convolutions, floats)
    assert (done.loaded.loaded[0], done.loaded.path) == ("conv_0", str(weights))
    with refused(errors.YolotfError):
        convert(weights, SMALL, tmp_path / "a.onnx", class_names=["a", "b"])


@pytest.mark.slow
def test_tensorflow_and_keras_are_not_needed(tmp_path, weights):
    (tmp_path / "a.cfg").write_text(SMALL)
    code = """
    import sys
    for name in ("tensorflow", "keras", "tf_keras", "tf2onnx"):
        sys.modules[name] = None
    from yolotf.cli.commands import main
    sys.exit(main(sys.argv[1:]))
    """
    arguments = ["convert", weights, "--cfg", tmp_path / "a.cfg", "-o", tmp_path / "a.onnx"]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "if 1:" + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(yolotf.__file__).parents[1],
    )
    assert done.returncode == 0, done.stderr
    onnx.checker.check_model(str(tmp_path / "a.onnx"), full_check=True)


def test_models_too_large_for_one_file_have_external_data(tmp_path, weights, monkeypatch):
    monkeypatch.setattr(file, "_DESCRIPTION_BYTES", file.LARGEST_MESSAGE)
    output = tmp_path / "a.onnx"
    done = convert(weights, SMALL, output)
    data = tmp_path / "a.onnx.data"
    network = parse_cfg(SMALL)
    assert done.size_bytes == output.stat().st_size + data.stat().st_size
    assert output.stat().st_size < 20_000
    assert {
        tensor.data_location
        for tensor in onnx.load(output, load_external_data=False).graph.initializer
    } == {0, 1}
    onnx.checker.check_model(str(output), full_check=True)
    pictures = pictures_for(network)
    expected = runtime_heads(network, weights, pictures)
    for engine in (by_onnxruntime, by_openvino):
        assert_close(list(engine(output, pictures).values()), expected)
    # An older one is replaced; what is no part of a model is not.
    convert(weights, SMALL, output)
    output.unlink()
    with refused(errors.YolotfError) as caught:
        convert(weights, SMALL, output)
    assert caught.value.path == str(data)
    assert not output.exists()


def test_a_part_of_the_file_is_in_memory_at_a_time(tmp_path, weights, monkeypatch):
    """The same bytes, whatever the pieces; each is read where it is."""
    convert(weights, SMALL, tmp_path / "whole.onnx")
    groups = []
    known = arrays.scatter

    def scatter(file, plan, assignments, arrays, **options):
        groups.append(sum(array.nbytes for array in arrays))
        return known(file, plan, assignments, arrays, **options)

    monkeypatch.setattr(arrays, "scatter", scatter)
    monkeypatch.setattr(arrays, "_PIECE", 1000)
    convert(weights, SMALL, tmp_path / "pieces.onnx")
    assert len(groups) > 3
    assert max(groups) <= 4 * 12 * 8 * 9, "no more than the largest kernel"
    assert (tmp_path / "pieces.onnx").read_bytes() == (tmp_path / "whole.onnx").read_bytes()


def test_weights_that_change_while_written_are_refused(tmp_path, weights, monkeypatch):
    output = tmp_path / "a.onnx"
    output.write_text("old")
    known = arrays.scatter

    def scatter(*arguments, **options):
        answer = known(*arguments, **options)
        os.utime(weights, ns=(1, 1))
        return answer

    monkeypatch.setattr(arrays, "scatter", scatter)
    with refused(errors.FileChangedError):
        convert(weights, SMALL, output)
    assert output.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "a.weights"]


@pytest.mark.parametrize("damage", ["cut", "longer", "nan", "header"])
def test_mismatching_weights_are_refused_with_a_diagnosis(damage, tmp_path, weights):
    content = bytearray(weights.read_bytes())
    match damage:
        case "cut":
            content = content[:-400]
        case "longer":
            content += bytes(400)
        case "nan":
            content[-4:] = np.float32("nan").tobytes()
        case "header":
            content = content[:10]
    weights.write_bytes(content)
    output = tmp_path / "a.onnx"
    with pytest.raises(errors.WeightsMismatch) as caught:
        convert(weights, SMALL, output)
    assert caught.value.diagnosis.causes
    assert not output.exists()


def test_convert_command_takes_the_onnx_options(tmp_path, weights, capsys):
    (tmp_path / "a.cfg").write_text(f"{SMALL}nms_kind=greedynms\n")
    (tmp_path / "a.names").write_text("a\nb\nc\nd\n")
    output = tmp_path / "a.onnx"
    common = ["convert", str(weights), "--cfg", str(tmp_path / "a.cfg"), "-o", str(output)]
    more = ["--layout", "nhwc", "--names", str(tmp_path / "a.names"), "--batch", "2"]
    assert cli.main([*common, *more]) == 0
    model = onnx.load(output)
    (picture,) = model.graph.input
    assert [dim.dim_value for dim in picture.type.tensor_type.shape.dim] == [2, 32, 64, 3]
    assert {entry.key: entry.value for entry in model.metadata_props}["names"] == "a\nb\nc\nd"
    assert capsys.readouterr().out.startswith(f"{weights} -> {output}: 5 layers")
    common.append("--overwrite")
    assert cli.main([*common, "--suppress", "--score", "0.3"]) == 0
    said(capsys.readouterr().err)
    assert [tensor.name for tensor in onnx.load(output).graph.output] == [
        *("boxes", "scores", "classes", "pictures")
    ]
    assert cli.main([*common, "--suppress", "--iou", "1"]) == 2
    said(capsys.readouterr().err)
    keras = [*common[:-2], str(tmp_path / "a.keras")]
    assert cli.main([*keras, "--suppress"]) == 2
    said(capsys.readouterr().err)
    assert cli.main([*keras, "--layout", "nhwc"]) == 2
    said(capsys.readouterr().err)


def test_stock_networks_know_their_classes(tmp_path):
    network = yolotf.network("yolov4-tiny", size=64)
    path = tmp_path / "a.weights"
    path.write_bytes(tame_file(network))
    arguments = ["convert", str(path), "--cfg", "yolov4-tiny", "--size", "64"]
    assert cli.main([*arguments, "-o", str(tmp_path / "a.onnx")]) == 0
    metadata = {entry.key: entry.value for entry in onnx.load(tmp_path / "a.onnx").metadata_props}
    assert metadata["names"].split("\n")[:2] == ["person", "bicycle"]


def test_the_description_needs_no_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    skeleton = describe(parse_cfg(SMALL)).skeleton()
    monkeypatch.undo()
    model = onnx.load_from_string(skeleton)
    onnx.checker.check_model(model, full_check=True)
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "onnx", None)
        with refused(errors.MissingPackageError):
            onnx_format.library()
