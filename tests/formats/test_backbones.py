"""Files that hold only the first layers of a network, where the whole network is needed."""

import numpy as np
import pytest

import yolotf
from support import weights_files
from support.messages import refused, said
from yolotf import errors
from yolotf.cli import commands as cli
from yolotf.formats.convert import convert
from yolotf.weights import layout

safetensors = pytest.importorskip("safetensors.numpy")

BACKBONES = [("yolov4-tiny", 29), ("yolov3-tiny", 15), ("yolov2-tiny", 13), ("darknet19", 19)]


def backbone(network, layers, path):
    end = max(segment.end for segment in layout.segments(network) if segment.layer < layers)
    return weights_files.write_zeros(path, 20 + end)


@pytest.mark.parametrize("file_name", ["{name}.conv.{layers}", "cut.weights"])
@pytest.mark.parametrize("output", ["x", "x.onnx", "x.tflite", "x.keras", "x.h5", "x.weights.h5"])
def test_backbone_is_not_converted_to_a_whole_network(output, file_name, tmp_path):
    name, layers = BACKBONES[0]
    network = yolotf.network(name)
    file = backbone(network, layers, tmp_path / file_name.format(name=name, layers=layers))
    with refused(errors.SizeMismatchError, code="size-mismatch") as caught:
        convert(file, network, tmp_path / output)
    assert caught.value.diagnosis.causes[0].kind == "partial_backbone"
    assert not (tmp_path / output).exists()


@pytest.mark.parametrize(("name", "layers"), BACKBONES)
@pytest.mark.parametrize("decode", [[], ["--decode"]])
def test_convert_command_refuses_backbones(name, layers, decode, tmp_path, capsys):
    network = yolotf.network(name)
    file = backbone(network, layers, tmp_path / f"{name}.conv.{layers}")
    if decode and not network.heads:
        pytest.skip("a classifier has no boxes")
    output = tmp_path / "x"
    code = cli.main(["convert", str(file), "--cfg", name, "-o", str(output), *decode])
    assert code == 1
    said(capsys.readouterr().err)
    assert not output.exists()


def test_safetensors_of_a_backbone_hold_only_its_layers(tmp_path):
    network = yolotf.network("yolov4-tiny", size=32)
    file = backbone(network, 29, tmp_path / "yolov4-tiny.conv.29")
    convert(file, network, tmp_path / "x.safetensors")
    names = {name.partition("/")[0] for name in safetensors.load_file(tmp_path / "x.safetensors")}
    expected = {
        f"conv_{segment.layer}" for segment in layout.segments(network) if segment.layer < 29
    }
    assert names == expected | {f"{name}_bn" for name in expected}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "layers"), BACKBONES)
def test_detectors_and_functions_refuse_backbones(name, layers, tmp_path):
    network = yolotf.network(name)
    file = backbone(network, layers, tmp_path / f"{name}.conv.{layers}")
    kind = yolotf.Detector if network.heads else yolotf.Classifier
    makers = [
        lambda: kind(network, file),
        lambda: yolotf.build_function(network, weights=file),
    ]
    for make in makers:
        with refused(errors.WeightsMismatch) as caught:
            make()
        assert caught.value.diagnosis.causes[0].kind == "partial_backbone"


def test_training_from_a_backbone_still_works(tmp_path):
    network = yolotf.network("yolov4-tiny", size=32)
    model = yolotf.build_model(network)
    before = model.get_layer("conv_29").kernel.numpy()
    report = yolotf.load_darknet_weights(model, backbone(network, 29, tmp_path / "a.conv.29"))
    (warning,) = report.warnings
    said(warning)
    np.testing.assert_array_equal(model.get_layer("conv_29").kernel.numpy(), before)
