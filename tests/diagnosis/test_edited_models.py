"""YOLOv4 models that somebody changed: a misspelt name, other filters, an additional layer.

The pages of docs/ that explain these show what is asserted here.
"""

import numpy as np
import pytest

import yolotf
from support import helpers
from support.messages import refused
from yolotf.darknet import cfg
from yolotf.loading.partial import Skipped
from yolotf.models.keras_module import keras
from yolotf.weights import layout

pytestmark = pytest.mark.slow

SIZE = 32  # of the picture; the kernels do not depend on it


@pytest.fixture(scope="module")
def network():
    return yolotf.network("yolov4", size=SIZE)


@pytest.fixture(scope="module")
def weights(network, tmp_path_factory):
    """A file of the official size, with numbers as a trained network has them."""
    path = tmp_path_factory.mktemp("yolov4") / "yolov4.weights"
    helpers.write_weights(path, network, seed=4, scale=0.05)
    yield path
    path.unlink()


def kernel_of(model, name):
    return model.get_layer(name).kernel.numpy()


def in_file(weights, network, index):
    (segment,) = (
        segment
        for segment in layout.segments(network)
        if (segment.layer, segment.role) == (index, "kernel")
    )
    floats = np.memmap(weights, np.float32, "r", 20 + segment.offset, segment.shape)
    return floats.transpose(2, 3, 1, 0)


# conv_23_typo


@pytest.fixture(scope="module")
def misspelt(network):
    def renamed(layer):
        config = layer.get_config()
        if config["name"] in ("conv_23", "conv_23_bn"):
            config["name"] = config["name"].replace("conv_23", "conv_23_typo")
        return type(layer).from_config(config)

    return keras().models.clone_model(yolotf.build_model(network), clone_function=renamed)


def test_misspelt_name_is_refused_with_the_nearest(misspelt, weights):
    before = kernel_of(misspelt, "conv_0").copy()
    with refused(yolotf.ModelMismatchError, code="model-mismatch", untouched=("conv_23_typo",)):
        yolotf.load_darknet_weights(misspelt, weights, by_name=True)
    np.testing.assert_array_equal(kernel_of(misspelt, "conv_0"), before)


def test_other_layers_load_without_the_misspelt_one(misspelt, weights, network):
    before = kernel_of(misspelt, "conv_23_typo").copy()
    report = yolotf.load_darknet_weights(misspelt, weights, by_name=True, strict=False)
    assert (report.untouched, report.unused) == (("conv_23_typo",), ("conv_23",))
    assert len(report.loaded) == 109
    np.testing.assert_array_equal(kernel_of(misspelt, "conv_23_typo"), before)
    np.testing.assert_array_equal(kernel_of(misspelt, "conv_24"), in_file(weights, network, 24))


def test_load_by_order_ignores_names(misspelt, weights, network):
    assert yolotf.load_darknet_weights(misspelt, weights).layers == 110
    np.testing.assert_array_equal(
        kernel_of(misspelt, "conv_23_typo"), in_file(weights, network, 23)
    )


# conv_50 with half its filters


@pytest.fixture(scope="module")
def narrowed(network):
    sections = list(network.sections)
    sections[51] = sections[51].with_option("filters", 64)  # sections count [net] too
    return cfg.resolve(sections, source="yolov4-edited.cfg")


def test_other_filters_are_refused_with_section_and_both_numbers(narrowed, weights):
    model = yolotf.build_model(narrowed)
    before = kernel_of(model, "conv_0").copy()
    with refused(yolotf.WeightsMismatch) as caught:
        yolotf.load_darknet_weights(model, weights)
    (cause,) = caught.value.diagnosis.causes
    assert (cause.kind, cause.layer, cause.file_floats_minus_model) == ("layer_shape", 50, 82_176)
    assert caught.value.diagnosis.first_divergence.layer == 50

    np.testing.assert_array_equal(kernel_of(model, "conv_0"), before)


def test_layers_that_other_filters_do_not_touch_can_be_loaded(narrowed, weights, network):
    model = yolotf.build_model(narrowed)
    report = yolotf.load_darknet_weights(model, weights, skip_mismatch=True)
    assert report.skipped == (
        Skipped("conv_50", (3, 3, 128, 128), (3, 3, 128, 64)),
        Skipped("conv_52", (1, 1, 128, 128), (1, 1, 64, 128)),
    )
    assert len(report.loaded) == 108
    assert not report.untouched
    np.testing.assert_array_equal(kernel_of(model, "conv_49"), in_file(weights, network, 49))
    np.testing.assert_array_equal(kernel_of(model, "conv_54"), in_file(weights, network, 54))


# conv_extra before conv_50


@pytest.fixture(scope="module")
def extended(network):
    """yolov4 with one more layer before section 50; references across it are one longer."""
    sections = list(network.sections)
    for layer in network.layers[50:]:
        for key in ("layers", "from"):
            option = layer.section.option(key)
            if option is None:
                continue
            numbers = [
                number - 1 if number < 0 and layer.index + number < 50 else number
                for number in map(int, option.value.split(","))
            ]
            changed = layer.section.with_option(key, ",".join(map(str, numbers)))
            sections[layer.index + 1] = changed
    extra = [("batch_normalize", 1), ("filters", 128), ("size", 1), ("activation", "mish")]
    options = tuple(cfg.Option(key, str(value), 1) for key, value in extra)
    sections.insert(51, cfg.Section("convolutional", 1, options))
    return cfg.parse_text(cfg.sections_to_cfg(sections), source="yolov4-extra.cfg")


def test_extra_layer_is_where_file_and_model_diverge(extended, weights):
    model = yolotf.build_model(extended)
    before = kernel_of(model, "conv_0").copy()
    with pytest.raises(yolotf.WeightsMismatch) as caught:
        yolotf.load_darknet_weights(model, weights)
    # Sections 49 and 50 of the cfg are alike: either may be the one that the file lacks.
    assert caught.value.diagnosis.first_divergence.layer in (49, 50)
    np.testing.assert_array_equal(kernel_of(model, "conv_0"), before)


def test_extra_layer_is_skipped(extended, weights, network):
    model = yolotf.build_model(extended)
    before = kernel_of(model, "conv_50").copy()
    report = yolotf.load_darknet_weights(model, weights, skip_mismatch=True)
    assert (report.untouched, report.skipped, report.unused) == (("conv_50",), (), ())
    assert len(report.loaded) == 110
    np.testing.assert_array_equal(kernel_of(model, "conv_50"), before)
    np.testing.assert_array_equal(kernel_of(model, "conv_51"), in_file(weights, network, 50))
    np.testing.assert_array_equal(kernel_of(model, "conv_160"), in_file(weights, network, 159))
