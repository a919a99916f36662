"""Loads into models that share only a part of the file's network."""

import numpy as np
import pytest

import yolotf
from support import by_hand, helpers, weights_files
from support.messages import refused, said
from yolotf.loading.job import plan_load
from yolotf.models.keras_module import keras
from yolotf.weights import layout
from yolotf.weights.file import WeightsFile


def sections_loaded(network, model, tmp_path):
    """The name of the Keras layer that takes each section's kernel, by section, and the job."""
    path = weights_files.write_zeros(tmp_path / "a.weights", layout.size_bytes(network))
    with WeightsFile.open(path) as file:
        job = plan_load(model, file, network, strict=True, by_name=False, skip_mismatch=True)
    layers = {
        assignment.segment.layer: assignment.slot.name.partition("/")[0]
        for assignment in job.plan.assignments
        if assignment.slot.role == "kernel"
    }
    return layers, job


def mobilenet(x):
    """Outputs of 256, 512 and 1024 channels, those of Darknet-53."""
    model = keras().applications.MobileNet(include_top=False, weights=None, input_tensor=x)
    names = ("conv_pw_5_relu", "conv_pw_11_relu", "conv_pw_13_relu")
    return model, [model.get_layer(name).output for name in names]


def resnet50(x):
    model = keras().applications.ResNet50(include_top=False, weights=None, input_tensor=x)
    names = ("conv3_block4_out", "conv4_block6_out", "conv5_block3_out")
    return model, [model.get_layer(name).output for name in names]


def xception(x):
    model = keras().applications.Xception(include_top=False, weights=None, input_tensor=x)
    names = ("block4_sepconv2_bn", "block13_sepconv2_bn", "block14_sepconv2_act")
    return model, [model.get_layer(name).output for name in names]


def efficientnet(x):
    model = keras().applications.EfficientNetB0(include_top=False, weights=None, input_tensor=x)
    names = ("block3b_add", "block5c_add", "top_activation")
    return model, [model.get_layer(name).output for name in names]


NECKS = {"yolov3": (75, (36, 61, 74)), "yolov4": (105, (54, 85, 104))}


@pytest.mark.slow
@pytest.mark.parametrize("classes", [80, 2])
@pytest.mark.parametrize("name", list(NECKS))
@pytest.mark.parametrize("backbone", [mobilenet, resnet50, xception, efficientnet])
def test_neck_under_another_backbone_gets_its_own_sections(name, backbone, classes, tmp_path):
    start, taps = NECKS[name]
    x = by_hand.picture()
    other, outputs = backbone(x)
    theirs = {layer.name for layer in other.layers}
    neck = yolotf.network(name, classes=classes)
    model = keras().Model(x, by_hand.heads_of(neck, dict(zip(taps, outputs, strict=True)), start))
    loaded, job = sections_loaded(yolotf.network(name), model, tmp_path)
    assert not theirs & set(loaded.values())
    assert min(loaded) >= start
    # Layers are created in the cfg's order, so each section has one place it can go.
    made = [
        layer.name
        for layer in model.layers
        if layer.name not in theirs and type(layer).__name__ == "Conv2D"
    ]
    made.sort(key=lambda layer: int(layer.rpartition("_")[2]) if "_" in layer else -1)
    sections = [
        layer.index for layer in neck.layers[start:] if type(layer).__name__ == "Convolutional"
    ]
    expected = dict(zip(sections, made, strict=True))
    assert {section: expected[section] for section in loaded} == loaded
    own = sum(classes != 80 for _ in neck.heads)
    # Where the backbone outputs other channel counts than Darknet's, up to three layers differ.
    assert len(loaded) >= len(sections) - 3 - own
    assert set(job.untouched) | {skipped.name for skipped in job.skipped} >= {
        layer for layer in made if layer not in loaded.values()
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolov4-tiny", "yolov3"])
@pytest.mark.parametrize("backbone", ["MobileNet", "MobileNetV2", "Xception"])
def test_stem_is_not_loaded_for_its_shape_alone(name, backbone, tmp_path):
    # Its first kernel is 3 x 3 x 3 x 32, and of yolov4-tiny's stride, too.
    model = getattr(keras().applications, backbone)(include_top=False, weights=None)
    with refused(yolotf.ModelMismatchError):
        sections_loaded(yolotf.network(name), model, tmp_path)


def test_neck_without_a_head_is_recognised_by_its_wiring(tmp_path):
    network = yolotf.network("yolov3")
    x = keras().layers.Input((13, 13, 1024))
    y = x
    for filters, size in ((512, 1), (1024, 3), (512, 1), (1024, 3), (512, 1)):
        y = by_hand.convolved(y, filters, size)
    loaded, _ = sections_loaded(network, keras().Model(x, y), tmp_path)
    assert set(loaded) == {75, 76, 77, 78, 79}


@pytest.mark.slow
def test_equally_likely_sections_are_left_out_and_reported(tmp_path):
    network = yolotf.network("yolov3")
    # One residual block of eight is missing, and nothing says which.
    model = by_hand.model_of(network, skipped=(21, 22, 23))
    loaded, job = sections_loaded(network, model, tmp_path)
    assert set(loaded) >= {0, 1, 2, 3, 5, 6, 7, 9, 10, 12, *range(75, 82)}
    (note,) = job.notes
    said(note)
    in_doubt = {name for name in job.untouched if f"{name} (" in note}
    assert in_doubt
    assert not in_doubt & set(job.loaded)


def test_two_layers_for_one_section_are_both_left_out(tmp_path):
    block = "[convolutional]\nbatch_normalize=1\nfilters=32\nsize={}\npad=1\nactivation=leaky\n\n"
    file = yolotf.parse_cfg(
        "[net]\nwidth=16\nheight=16\nchannels=32\n\n"
        + "".join(map(block.format, (3, 1, 3)))
        + "[convolutional]\nfilters=18\nsize=1\nactivation=linear\n"
    )
    x = keras().layers.Input((16, 16, 32))
    y = x
    for size in (3, 1, 1, 3):
        y = by_hand.convolved(y, 32, size)
    model = keras().Model(x, keras().layers.Conv2D(18, 1)(y))
    loaded, job = sections_loaded(file, model, tmp_path)
    assert set(loaded) == {0, 2, 3}
    assert len(job.untouched) == 2
    assert job.notes[0].count("(conv_1)") == 2
    said(job.notes[0])


def squeezed(x):
    layers = keras().layers
    channels = x.shape[-1]
    y = layers.GlobalAveragePooling2D(keepdims=True)(x)
    y = layers.Conv2D(channels // 4, 1, activation="relu")(y)
    return layers.Multiply()([x, layers.Conv2D(channels, 1, activation="sigmoid")(y)])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolov3-tiny", "yolov4-tiny", "yolov3"])
@pytest.mark.parametrize("every", [3, 5])
def test_attention_with_biases_is_stepped_over(name, every, tmp_path):
    network = yolotf.network(name)

    def after(layer, x):
        return squeezed(x) if layer.index % every == 2 and layer.batch_normalize else x

    loaded, job = sections_loaded(network, by_hand.model_of(network, after=after), tmp_path)
    assert set(loaded) == {segment.layer for segment in layout.segments(network)}
    assert job.untouched


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["relu", "swish"])
def test_other_activations_do_not_stop_a_whole_network(activation, tmp_path):
    network = yolotf.network("yolov4-tiny")
    model = by_hand.model_of(network, activation=activation)
    loaded, _ = sections_loaded(network, model, tmp_path)
    assert len(loaded) == 21


@pytest.mark.slow
@pytest.mark.parametrize("section", [2, 7, 12, 27])
def test_other_filters_cost_the_layers_they_touch(section, tmp_path):
    network = yolotf.network("yolov4-tiny")
    filters = {section: network.layers[section].filters + 8}
    model = by_hand.model_of(network, filters=filters)
    loaded, job = sections_loaded(network, model, tmp_path)
    stored = {segment.layer for segment in layout.segments(network)}
    assert section not in loaded
    assert len(stored - set(loaded)) == len(job.skipped)
    assert len(loaded) >= len(stored) - 5


def test_neck_gets_its_numbers(tmp_path):
    network = yolotf.network("yolov4-tiny", size=64)
    path = tmp_path / "a.weights"
    numbers = helpers.write_weights(path, network)
    x = by_hand.picture(64)
    layers = keras().layers
    y = layers.Conv2D(24, 3, 4, padding="same", use_bias=False)(x)
    y = layers.ReLU()(layers.BatchNormalization()(y))
    middle = by_hand.convolved(layers.MaxPooling2D(4)(y), 256, 1)
    deep = by_hand.convolved(layers.MaxPooling2D(2)(middle), 512, 1)
    model = keras().Model(x, by_hand.heads_of(network, {23: middle, 26: deep}, 27))
    report = yolotf.load_darknet_weights(model, path, cfg=network, skip_mismatch=True)
    assert len(report.loaded) == 6
    (kernel,) = (
        segment
        for segment in layout.segments(network)
        if segment.layer == 27 and segment.role == "kernel"
    )
    start = kernel.offset // 4
    expected = numbers[start : start + kernel.count].reshape(kernel.shape)
    np.testing.assert_array_equal(
        model.get_layer(report.loaded[0]).kernel.numpy(), expected.transpose(2, 3, 1, 0)
    )
