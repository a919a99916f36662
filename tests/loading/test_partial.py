"""Loads of a part of a file, or into a part of a model."""

import numpy as np
import pytest

import yolotf
from support import helpers
from support.cfgs import conv, net, normalized, yolo
from support.messages import refused, said
from yolotf.loading import partial
from yolotf.models import layer_names
from yolotf.models.keras_module import keras
from yolotf.weights import layout
from yolotf.weights.file import WeightsFile

CFG = (
    net(32)
    + normalized(8, 3)
    + normalized(16, 3, stride=2)
    + normalized(16)
    + normalized(16)
    + conv(21)
    + yolo(2, "1,2,3,4,5,6")
)


def write(network, path, floats=None):
    return helpers.write_weights(path, network, floats)


def numbers_of(model):
    return {v.path: v.numpy() for v in model.variables}


def lines_with(text, report):
    """The lines of a report in which `text` stands."""
    return "\n".join(line for line in str(report).splitlines() if text in line)


def in_file(numbers, network, index, role):
    (segment,) = (
        segment
        for segment in layout.segments(network)
        if (segment.layer, segment.role) == (index, role)
    )
    start = segment.offset // 4
    return numbers[start : start + segment.count].reshape(segment.shape)


def assert_loaded(model, name, numbers, network, index):
    kernel = model.get_layer(name).kernel.numpy()
    np.testing.assert_array_equal(
        kernel, in_file(numbers, network, index, "kernel").transpose(2, 3, 1, 0)
    )
    norm = model_norm(model, name)
    if norm is not None:
        for role in ("beta", "gamma", "moving_mean", "moving_variance"):
            np.testing.assert_array_equal(
                getattr(norm, role).numpy(), in_file(numbers, network, index, role)
            )


def model_norm(model, name):
    return next((layer for layer in model.layers if layer.name == f"{name}_bn"), None)


def assert_untouched(model, names, before):
    after = numbers_of(model)
    for path, array in before.items():
        if path.split("/")[0].removesuffix("_bn") in names:
            np.testing.assert_array_equal(after[path], array)


@pytest.fixture
def network():
    return yolotf.parse_cfg(CFG)


def hand_made(names, filters=(8, 16, 16, 16), extra_before=None):
    """A functional model as people write them, with the given layer names."""
    layers = keras().layers
    x = inputs = layers.Input((32, 32, 3))
    for number, (name, count) in enumerate(zip(names, filters, strict=False)):
        if extra_before == number:
            x = layers.Conv2D(16, 1, use_bias=False, name="conv_extra")(x)
            x = layers.BatchNormalization(epsilon=1e-5, name="conv_extra_bn")(x)
        stride = 2 if number == 1 else 1
        size = 3 if number < 2 else 1
        x = layers.Conv2D(count, size, strides=stride, padding="same", use_bias=False, name=name)(x)
        x = layers.BatchNormalization(epsilon=1e-5, name=f"{name}_bn")(x)
        x = layers.LeakyReLU()(x)
    x = layers.Conv2D(21, 1, name=names[4])(x)
    return keras().Model(inputs, x)


NAMES = ["conv_0", "conv_1", "conv_2", "conv_3", "conv_4"]


def test_by_name_pairs_layers_of_equal_names_in_any_order(network, tmp_path):
    numbers = write(network, tmp_path / "a.weights")
    model = hand_made(NAMES)
    report = yolotf.load_darknet_weights(model, tmp_path / "a.weights", cfg=network, by_name=True)
    for index, name in enumerate(NAMES):
        assert_loaded(model, name, numbers, network, index)
    assert report.loaded == tuple(NAMES)
    assert (report.skipped, report.untouched, report.unused) == ((), (), ())


def test_a_misspelt_name_is_refused_with_the_nearest(network, tmp_path):
    path = tmp_path / "a.weights"
    write(network, path)
    model = hand_made(["conv_0", "conv_1", "conv_2_typo", "conv_3", "conv_4"])
    before = numbers_of(model)
    with refused(yolotf.ModelMismatchError, code="model-mismatch", untouched=("conv_2_typo",)):
        yolotf.load_darknet_weights(model, path, cfg=network, by_name=True)
    assert_untouched(model, {layer.name for layer in model.layers}, before)


def test_a_misspelt_name_can_be_left_out(network, tmp_path):
    numbers = write(network, tmp_path / "a.weights")
    model = hand_made(["conv_0", "conv_1", "conv_2_typo", "conv_3", "conv_4"])
    before = numbers_of(model)
    report = yolotf.load_darknet_weights(
        model, tmp_path / "a.weights", cfg=network, by_name=True, strict=False
    )
    assert report.untouched == ("conv_2_typo",)
    assert report.unused == ("conv_2",)
    assert_untouched(model, {"conv_2_typo"}, before)
    assert_loaded(model, "conv_3", numbers, network, 3)
    said(lines_with("conv_2_typo", report))


def test_layer_of_another_shape_is_refused_with_both_shapes(network, tmp_path):
    write(network, tmp_path / "a.weights")
    model = hand_made(NAMES, filters=(8, 16, 12, 16))
    before = numbers_of(model)
    with refused(yolotf.ModelMismatchError):
        yolotf.load_darknet_weights(model, tmp_path / "a.weights", cfg=network, by_name=True)
    assert_untouched(model, {layer.name for layer in model.layers}, before)


def test_skip_mismatch_skips_layers_with_both_shapes(network, tmp_path):
    numbers = write(network, tmp_path / "a.weights")
    model = hand_made(NAMES, filters=(8, 16, 12, 16))
    before = numbers_of(model)
    report = yolotf.load_darknet_weights(
        model, tmp_path / "a.weights", cfg=network, skip_mismatch=True
    )
    assert report.loaded == ("conv_0", "conv_1", "conv_4")
    assert report.skipped == (
        partial.Skipped("conv_2", (1, 1, 16, 16), (1, 1, 16, 12)),
        partial.Skipped("conv_3", (1, 1, 16, 16), (1, 1, 12, 16)),
    )
    said(lines_with("conv_2", report))
    assert_untouched(model, {"conv_2", "conv_3"}, before)
    assert_loaded(model, "conv_4", numbers, network, 4)


@pytest.mark.parametrize("extra_before", [2, 3])
def test_extra_layer_shifts_no_other_layer(network, tmp_path, extra_before):
    numbers = write(network, tmp_path / "a.weights")
    model = hand_made(NAMES, extra_before=extra_before)
    before = numbers_of(model)
    report = yolotf.load_darknet_weights(
        model, tmp_path / "a.weights", cfg=network, skip_mismatch=True
    )
    assert report.untouched == ("conv_extra",)
    assert report.loaded == tuple(NAMES)
    assert_untouched(model, {"conv_extra"}, before)
    for index, name in enumerate(NAMES):
        assert_loaded(model, name, numbers, network, index)


def test_extra_layer_is_refused_without_skip_mismatch(network, tmp_path):
    write(network, tmp_path / "a.weights")
    model = hand_made(NAMES, extra_before=2)
    before = numbers_of(model)
    with pytest.raises(yolotf.WeightsMismatch):
        yolotf.load_darknet_weights(model, tmp_path / "a.weights", cfg=network)
    assert_untouched(model, {layer.name for layer in model.layers}, before)


def test_a_backbone_fills_its_layers_and_leaves_the_rest(network, tmp_path):
    path = tmp_path / "net.conv.3"
    through = layout.segments(network)
    floats = next(s for s in through if s.layer == 3).offset // 4
    numbers = write(network, path, floats)
    model = yolotf.build_model(network)
    before = model.get_layer("conv_4").kernel.numpy()
    report = yolotf.load_darknet_weights(model, path)
    assert report.loaded == ("conv_0", "conv_1", "conv_2")
    assert report.untouched == ("conv_3", "conv_4")
    (warning,) = report.warnings
    said(warning)
    for index in range(3):
        assert_loaded(model, f"conv_{index}", numbers, network, index)
    assert before.any()
    np.testing.assert_array_equal(model.get_layer("conv_4").kernel.numpy(), before)


@pytest.mark.parametrize(("name", "layers"), [("a.conv.4", 4), ("a.conv.5", 5), ("a.conv.9", 4)])
def test_backbone_names_count_layers_without_weights(name, layers):
    head = CFG.index("[convolutional]\nfilters=21")
    network = yolotf.parse_cfg(f"{CFG[:head]}[maxpool]\nsize=1\nstride=1\n\n{CFG[head:]}")
    segments = layout.segments(network)
    floats = next(segment for segment in segments if segment.layer == 5).offset // 4
    named = WeightsFile.named(name).backbone_layers
    assert partial.layers_in_backbone(segments, floats, named) == layers


def test_short_file_is_a_backbone_only_by_name_or_strict_false(network, tmp_path):
    path = tmp_path / "net.weights"
    floats = next(s for s in layout.segments(network) if s.layer == 3).offset // 4
    write(network, path, floats)
    model = yolotf.build_model(network)
    before = model.get_layer("conv_0").kernel.numpy()
    with pytest.raises(yolotf.SizeMismatchError):
        yolotf.load_darknet_weights(model, path)
    np.testing.assert_array_equal(model.get_layer("conv_0").kernel.numpy(), before)
    assert yolotf.load_darknet_weights(model, path, strict=False).untouched == ("conv_3", "conv_4")


@pytest.mark.parametrize("name", ["net.conv.3", "net.weights"])
def test_a_file_that_ends_inside_a_layer_is_no_backbone(network, tmp_path, name):
    path = tmp_path / name
    floats = next(s for s in layout.segments(network) if s.layer == 3).offset // 4
    write(network, path, floats + 5)
    with pytest.raises(yolotf.SizeMismatchError):
        yolotf.load_darknet_weights(yolotf.build_model(network), path, strict=False)


def test_a_file_of_another_class_count_fills_all_but_the_head(network, tmp_path):
    numbers = write(network, tmp_path / "a.weights")
    model = yolotf.build_model(network.with_classes(5))
    report = yolotf.load_darknet_weights(model, tmp_path / "a.weights", cfg=network)
    assert report.loaded == ("conv_0", "conv_1", "conv_2", "conv_3")
    assert report.skipped == (partial.Skipped("conv_4", (1, 1, 16, 21), (1, 1, 16, 30)),)
    for index in range(4):
        assert_loaded(model, f"conv_{index}", numbers, network, index)


def test_other_layers_than_the_head_are_refused(network, tmp_path):
    write(network, tmp_path / "a.weights")
    changed = yolotf.parse_cfg(CFG.replace("filters=8", "filters=4"))
    with refused(yolotf.ModelMismatchError) as caught:
        yolotf.load_darknet_weights(
            yolotf.build_model(changed), tmp_path / "a.weights", cfg=network
        )
    assert [layer.name for layer in caught.value.skipped] == ["conv_0", "conv_1"]


def test_the_source_is_found_by_the_size_of_the_file(tmp_path):
    source = yolotf.network("yolov4-tiny", classes=3, size=64)
    numbers = write(source, tmp_path / "a.weights")
    model = yolotf.build_model(yolotf.network("yolov4-tiny", classes=7, size=64))
    report = yolotf.load_darknet_weights(model, tmp_path / "a.weights", skip_mismatch=True)
    assert len(report.loaded) == 19
    assert len(report.skipped) == 2
    assert_loaded(model, "conv_0", numbers, source, 0)


def test_whole_load_reports_what_it_loaded(network, tmp_path):
    write(network, tmp_path / "a.weights")
    report = yolotf.load_darknet_weights(yolotf.build_model(network), tmp_path / "a.weights")
    assert report.loaded == tuple(NAMES)


def test_alignment_prefers_more_matching_layers_then_equal_names(network, tmp_path):
    model = yolotf.build_model(network)
    slots = layer_names.by_section(model, network)
    targets = [
        partial.ModelLayer(
            f"conv_{index}", {role: slot for (of, role), slot in slots.items() if of == index}
        )
        for index in range(5)
    ]
    sources = partial.file_layers(network, layout.segments(network))
    without = [source for source in sources if source.index != 2]
    pairs, doubts, _ = partial.align(without, targets)
    assert not doubts
    # conv_2 and conv_3 have one shape: the names tell which of them is missing.
    assert [(a and a.name, b and b.name) for a, b in pairs] == [
        ("conv_0", "conv_0"),
        ("conv_1", "conv_1"),
        (None, "conv_2"),
        ("conv_3", "conv_3"),
        ("conv_4", "conv_4"),
    ]
