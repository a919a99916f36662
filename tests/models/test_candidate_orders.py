"""Models that yolotf did not build: finding the file's order of their layers."""

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, event, given, settings

import yolotf
from support import foreign_models, messages, numpy_loader, random_networks, weights_files
from support.cfgs import normalized
from support.foreign_models import CFG, HEAD, SIZE, STYLES, L, Normalization, Pair, Recorder
from yolotf.darknet import cfg
from yolotf.models import traversal
from yolotf.models.keras_module import keras
from yolotf.models.order_by_network import Binding
from yolotf.models.units import Structure
from yolotf.weights import layout


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return foreign_models.weights_file(tmp_path_factory.mktemp("weights") / "small.weights")


def built(style, record=None):
    record = record or Recorder()
    return STYLES[style](record), record.pairs


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
def test_every_style_loads_without_a_cfg(style, weights):
    model, pairs = built(style)
    report = yolotf.load_darknet_weights(model, weights)
    foreign_models.assert_holds(pairs, weights)
    assert (report.layers, report.floats) == (len(pairs), (weights.stat().st_size - 20) // 4)


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
def test_every_style_loads_with_its_cfg(style, weights):
    model, pairs = built(style)
    yolotf.load_darknet_weights(model, weights, cfg=CFG)
    foreign_models.assert_holds(pairs, weights)


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
def test_names_need_not_start_at_zero(style, weights):
    first, _ = built(style)
    second, pairs = built(style)
    names = {pair.kernel.name for pair in pairs}
    assert names.isdisjoint(layer.name for layer in traversal.layers(first))
    yolotf.load_darknet_weights(second, weights)
    foreign_models.assert_holds(pairs, weights)


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
def test_a_subclass_of_batch_normalization_is_one(style, weights):
    model, pairs = built(style, Recorder(Normalization))
    yolotf.load_darknet_weights(model, weights)
    foreign_models.assert_holds(pairs, weights)


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
def test_names_without_numbers_do_not_matter(style, weights):
    model, pairs = built(style, Recorder(names=lambda place: f"layer_{'nxdkgbmalcjeif'[place]}"))
    yolotf.load_darknet_weights(model, weights)
    foreign_models.assert_holds(pairs, weights)


class Twins(L.Layer):
    """Two layers of equal shape, declared in one order and called in the other."""

    def __init__(self, names):
        super().__init__()
        self.first, self.second = (L.Conv2D(4, 1, name=name) for name in names)

    def call(self, x):
        return self.second(x), self.first(x)


def test_layers_of_equal_shape_in_no_order_are_refused(tmp_path):
    block = Twins(["north", "south"])
    block(tf.zeros((1, 8, 8, 3)))
    before = [variable.numpy().copy() for variable in block.weights]
    path = _random_file(tmp_path / "twins.weights", [Pair(block.first, None)] * 2)
    with messages.refused(yolotf.ModelMismatchError) as caught:
        yolotf.load_darknet_weights(block, path)
    assert set(caught.value.names) == {"north", "south"}

    for variable, values in zip(block.weights, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), values)


def test_numbers_in_names_order_layers_of_equal_shape(tmp_path):
    block = Twins(["conv_b1", "conv_b2"])
    block(tf.zeros((1, 8, 8, 3)))
    pairs = [Pair(block.first, None), Pair(block.second, None)]
    path = _random_file(tmp_path / "twins.weights", pairs)
    yolotf.load_darknet_weights(block, path)
    foreign_models.assert_holds(pairs, path)


def test_header_of_16_bytes_is_recognised_by_the_size(tmp_path):
    path = foreign_models.weights_file(tmp_path / "old.weights", header_bytes=16)
    model, pairs = built("flat")
    report = yolotf.load_darknet_weights(model, path)
    foreign_models.assert_holds(pairs, path, header_bytes=16)
    assert report.header.size_bytes == 16


@pytest.mark.slow
@pytest.mark.parametrize("style", ["flat", "submodels", "three_parts"])
def test_a_model_read_from_a_file_keeps_its_order(style, weights, tmp_path):
    model, pairs = built(style)
    model.save(tmp_path / "model.keras")
    again = keras().models.load_model(tmp_path / "model.keras", compile=False)
    named = {layer.name: layer for layer in traversal.layers(again)}
    yolotf.load_darknet_weights(again, weights)
    again_pairs = [
        Pair(named[kernel.name], named[norm.name] if norm else None) for kernel, norm in pairs
    ]
    foreign_models.assert_holds(again_pairs, weights)


@pytest.mark.slow
def test_saved_yolotf_model_is_loaded_by_its_names(weights, tmp_path):
    model = yolotf.build_model(yolotf.parse_cfg(CFG))
    yolotf.load_darknet_weights(model, weights)
    model.save(tmp_path / "model.keras")
    again = keras().models.load_model(tmp_path / "model.keras", compile=False)
    for variable in again.weights:
        variable.assign(tf.zeros_like(variable))
    yolotf.load_darknet_weights(again, weights)
    for variable, reloaded in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(variable.numpy(), reloaded.numpy())


class Scrambled:
    """The flat model with the two equal branches written in the wrong order."""

    def __init__(self):
        record = Recorder()
        inputs = foreign_models.picture()
        x = record.conv(inputs, 8, 3)
        x = record.conv(x, 16, 3, 2)
        main = record.conv(x, 8, 1)
        route = record.conv(x, 8, 1)
        x = record.conv(main, 8, 1)
        x = L.Add()([main, record.conv(x, 8, 3)])
        x = record.conv(x, 8, 1)
        middle = record.conv(L.Concatenate()([x, route]), 16, 1)
        x = record.conv(middle, 32, 3, 2)
        self.model = keras().Model(inputs, foreign_models._heads(record, middle, x))
        second, third = record.pairs[2:4]
        self.pairs = [*record.pairs[:2], third, second, *record.pairs[4:]]


def test_cfg_orders_layers_by_their_inputs(weights):
    scrambled = Scrambled()
    yolotf.load_darknet_weights(scrambled.model, weights, cfg=CFG)
    foreign_models.assert_holds(scrambled.pairs, weights)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolov4-tiny", "yolov3-tiny"])
def test_stock_network_is_loaded_in_any_layer_order(name, tmp_path):
    """Creation order and names are misleading here; only the graph is right."""
    network = yolotf.network(name, classes=2, size=96)
    original = yolotf.build_model(network)
    path = tmp_path / "stock.weights"
    path.write_bytes(numpy_loader.random_file(network.to_cfg()))
    yolotf.load_darknet_weights(original, path)
    model = _renamed(original)
    yolotf.load_darknet_weights(model, path)
    picture = np.random.default_rng(0).random((1, 96, 96, 3), np.float32)
    for head, expected_head in zip(original(picture), model(picture), strict=True):
        np.testing.assert_array_equal(head, expected_head)


def _renamed(model, seed=1):
    """A copy with new variables, whose layers are made and named in a random order."""
    config = model.get_config()
    names = {entry["name"] for entry in config["layers"]}
    kernels = sorted(name for name in names if name.startswith("conv") and name[5:].isdigit())
    shuffled = list(kernels)
    np.random.default_rng(seed).shuffle(shuffled)
    numbers = {name: f"conv2d_{number}" for number, name in enumerate(shuffled)}
    numbers |= {
        f"{name}_bn": f"batch_normalization_{number}" for number, name in enumerate(sorted(kernels))
    }

    def clone(layer):
        options = layer.get_config()
        options["name"] = numbers.get(layer.name, layer.name)
        return type(layer).from_config(options)

    return keras().models.clone_model(model, clone_function=clone)


@pytest.mark.slow
@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(drawn=random_networks.drawn_networks(), seed=hypothesis.strategies.integers(0, 99))
def test_load_with_a_cfg_swaps_no_layers(drawn, seed, tmp_path_factory):
    """Whatever its layers' names and order of creation, a load is right or refused."""
    network = cfg.resolve(drawn.sections, source="drawn.cfg")
    try:
        original = yolotf.build_model(network)
    except yolotf.UnsupportedSectionError:
        hypothesis.reject()
    hypothesis.assume(len(original.weights) > 4)
    path = tmp_path_factory.mktemp("drawn") / "drawn.weights"
    random = np.random.default_rng(seed)
    arrays = []
    for segment in layout.segments(network):
        values = random.standard_normal(segment.count)
        arrays.append(abs(values) if segment.role == "moving_variance" else values)
    weights_files.write(path, *arrays)
    copy = _renamed(original, seed)
    try:
        yolotf.load_darknet_weights(original, path)
        yolotf.load_darknet_weights(copy, path, cfg=network)
    except yolotf.ModelMismatchError as error:
        event(f"refused: {str(error)[:60]}")
        return
    binding = Binding(Structure(copy), network)
    if len(binding.search()) != 1:
        event("several layers could change places")
        return
    event(f"loaded {len(original.weights)} variables")
    picture = random.random((1, *network.input_shape), np.float32)
    for head, copied_head in zip(_flat(original(picture)), _flat(copy(picture)), strict=True):
        np.testing.assert_allclose(head, copied_head, rtol=1e-5, atol=1e-5)


def _flat(outputs):
    return outputs if isinstance(outputs, list) else [outputs]


def test_a_file_of_another_network_of_equal_size_is_refused(tmp_path):
    """The same floats in another order: variances would be negative."""
    inputs = foreign_models.picture()
    record = Recorder()
    x = record.conv(inputs, 24, 3)
    x = record.conv(x, 8, 1)
    model = keras().Model(inputs, record.conv(x, 16, 3))
    arrays = []
    random = np.random.default_rng(0)
    for filters, channels, size in ((16, 8, 3), (24, 3, 3), (8, 24, 1)):
        for role in range(4):
            values = random.standard_normal(filters)
            arrays.append(abs(values) if role == 3 else values)
        arrays.append(random.standard_normal(filters * channels * size**2))
    path = weights_files.write(tmp_path / "other.weights", *arrays)
    before = [variable.numpy().copy() for variable in model.weights]
    with pytest.raises(yolotf.ContentError) as caught:
        yolotf.load_darknet_weights(model, path)
    assert any("moving_variance" in tried for tried in caught.value.tried)
    for variable, values in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), values)


def test_file_of_another_size_is_refused_with_both_sizes(weights, tmp_path):
    model, _ = built("flat")
    path = tmp_path / "longer.weights"
    path.write_bytes(weights.read_bytes() + bytes(8))
    size = weights.stat().st_size
    facts = {"expected": size, "found": size + 8}
    with messages.refused(yolotf.SizeMismatchError, code="size-mismatch", **facts):
        yolotf.load_darknet_weights(model, path)


def test_model_of_another_cfg_is_refused(weights):
    model, _ = built("flat")
    with messages.refused(yolotf.ModelMismatchError) as caught:
        yolotf.load_darknet_weights(model, weights, cfg="yolov4-tiny")
    assert (caught.value.units, caught.value.sections) == (14, 21)


def test_cfg_with_other_filters_is_refused_with_the_layer(weights):
    model, _ = built("flat")
    other = CFG.replace(normalized(32, 3) + "[", normalized(40, 3) + "[")
    with messages.refused(yolotf.ModelMismatchError):
        yolotf.load_darknet_weights(model, weights, cfg=other)


def _random_file(path, pairs):
    """A file for `pairs` as `assert_holds` reads it."""
    random = np.random.default_rng(0)
    arrays = []
    for kernel, norm in pairs:
        weights = kernel.kernel if hasattr(kernel, "kernel") else kernel.depthwise_kernel
        shape = tuple(weights.shape)
        outputs = shape[-1]
        if "Depthwise" in type(kernel).__name__:
            outputs *= shape[-2]
        for role in range(4 if norm is not None else 1):
            values = random.standard_normal(outputs)
            arrays.append(abs(values) if role == 3 else values)
        arrays.append(random.standard_normal(int(np.prod(shape))))
    return weights_files.write(path, *arrays)


def test_depthwise_and_dense_layers(tmp_path):
    def layer(kernel, norm=True):
        pairs.append(Pair(kernel, L.BatchNormalization() if norm else None))
        return pairs[-1]

    pairs = []
    inputs = L.Input((16, 16, 3))
    x = foreign_models.use(layer(L.Conv2D(6, 3, use_bias=False)), inputs)
    x = foreign_models.use(layer(L.DepthwiseConv2D(3, use_bias=False)), x)
    x = foreign_models.use(layer(L.Conv2D(4, 1, use_bias=False)), x)
    x = foreign_models.use(layer(L.DepthwiseConv2D(3, use_bias=False)), x)
    x = foreign_models.use(layer(L.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False)), x)
    x = L.GlobalAveragePooling2D()(x)
    dense = layer(L.Dense(5), norm=False)
    model = keras().Model(inputs, dense.kernel(x))
    path = _random_file(tmp_path / "depthwise.weights", pairs)
    yolotf.load_darknet_weights(model, path)
    foreign_models.assert_holds(pairs, path)


class Apart(L.Layer):
    """First all convolutions, then all norms, as people coming from PyTorch write it."""

    def __init__(self, pairs):
        super().__init__()
        self.conv1, self.conv2 = (pair.kernel for pair in pairs)
        self.bn1, self.bn2 = (pair.norm for pair in pairs)

    def call(self, x):
        return self.bn2(self.conv2(self.bn1(self.conv1(x))))


@pytest.mark.parametrize("eager", [False, True])
def test_norms_declared_after_all_convolutions(eager, tmp_path):
    record = Recorder()
    pairs = [record.make(8, 1), record.make(8, 1)]
    if eager:
        for pair, channels in zip(pairs, (3, 8), strict=True):
            pair.kernel.build((None, 8, 8, channels))
        for pair in pairs:
            pair.norm.build((None, 8, 8, 8))
    block = Apart(pairs)
    block(tf.zeros((1, 8, 8, 3)))
    path = _random_file(tmp_path / "apart.weights", pairs)
    yolotf.load_darknet_weights(block, path)
    foreign_models.assert_holds(pairs, path)


class Plain(tf.Module):
    """A convolution and a norm without Keras."""

    def __init__(self, channels, filters, norm):
        super().__init__()
        self.w = tf.Variable(tf.zeros((3, 3, channels, filters)))
        if norm:
            for name in ("beta", "gamma", "moving_mean", "moving_variance"):
                setattr(self, name, tf.Variable(tf.zeros(filters)))
        else:
            self.b = tf.Variable(tf.zeros(filters))


class Net(tf.Module):
    def __init__(self):
        super().__init__()
        self.blocks = [Plain(3, 8, True), Plain(8, 4, False)]


def test_a_module_with_kernel_and_norm_of_its_own(tmp_path):
    net = Net()
    first, last = net.blocks
    pairs = [
        Pair(type("Kernel", (), {"kernel": first.w}), first),
        Pair(type("Kernel", (), {"kernel": last.w, "bias": last.b}), None),
    ]
    path = _random_file(tmp_path / "module.weights", pairs)
    yolotf.load_darknet_weights(net, path)
    foreign_models.assert_holds(pairs, path)


@pytest.mark.parametrize("named", [True, False])
def test_list_of_variables_is_loaded_by_their_names(named, weights):
    model, pairs = built("flat")
    variables = list(model.weights)
    if not named:
        variables = [tf.Variable(variable) for variable in variables]
        with messages.refused(yolotf.ModelMismatchError):
            yolotf.load_darknet_weights(variables, weights)
        return
    yolotf.load_darknet_weights(variables, weights)
    foreign_models.assert_holds(pairs, weights)


@pytest.mark.parametrize("layers", ["flatten", "reshape", "permute", "pool", "one"])
def test_dense_layers_read_channels_first_or_are_refused(layers, tmp_path):
    record = Recorder()
    inputs = foreign_models.picture()
    x = record.conv(inputs, 4, 3, 2)
    if layers == "one":
        x = record.conv(x, 4, 15)
        x = L.AveragePooling2D(15)(x)
    if layers == "permute":
        x = L.Permute((3, 1, 2))(x)
    if layers == "pool":
        x = L.GlobalAveragePooling2D()(x)
    elif layers == "reshape":
        x = L.Reshape((int(np.prod(x.shape[1:])),))(x)
    else:
        x = L.Flatten()(x)
    dense = L.Dense(5, name="last")
    model = keras().Model(inputs, dense(x))
    pairs = [*record.pairs, Pair(dense, None)]
    path = _random_file(tmp_path / "dense.weights", pairs)
    if layers in ("flatten", "reshape"):
        with messages.refused(yolotf.ModelMismatchError):
            yolotf.load_darknet_weights(model, path)
        return
    yolotf.load_darknet_weights(model, path)
    foreign_models.assert_holds(pairs, path)


def test_unbuilt_model_is_refused(weights):
    model = foreign_models.Subclassed(Recorder())
    with messages.refused(yolotf.ModelMismatchError):
        yolotf.load_darknet_weights(model, weights)


def test_convolution_with_neither_bias_nor_norm_is_refused(weights):
    inputs = foreign_models.picture()
    model = keras().Model(inputs, L.Conv2D(8, 3, use_bias=False, name="naked")(inputs))
    with messages.refused(yolotf.ModelMismatchError):
        yolotf.load_darknet_weights(model, weights)


@pytest.mark.parametrize("option", ["center", "scale"])
def test_norm_without_all_four_arrays_is_refused(option, weights):
    inputs = foreign_models.picture()
    x = L.Conv2D(8, 3, use_bias=False)(inputs)
    norm = L.BatchNormalization(name="half", **{option: False})
    model = keras().Model(inputs, norm(x))
    with messages.refused(yolotf.ModelMismatchError):
        yolotf.load_darknet_weights(model, weights)


def test_layers_that_darknet_lacks_are_listed_where_the_size_differs(weights):
    inputs = foreign_models.picture()
    x = L.Conv2D(8, 3)(inputs)
    model = keras().Model(inputs, L.Conv2DTranspose(4, 3, name="transposed")(x))
    with pytest.raises(yolotf.SizeMismatchError) as caught:
        yolotf.load_darknet_weights(model, weights)
    assert caught.value.not_counted == ["transposed"]


def test_other_weights_are_left_alone_and_reported(weights):
    record = Recorder()
    model = foreign_models.flat(record)
    scaled = keras().Model(model.inputs, [*model.outputs, L.PReLU(name="mine")(model.outputs[0])])
    report = yolotf.load_darknet_weights(scaled, weights)
    foreign_models.assert_holds(record.pairs, weights)
    assert report.untouched == ("mine",)


def test_mixed_precision_keeps_its_float32_variables(weights):
    mixed = keras().mixed_precision
    mixed.set_global_policy("mixed_float16")
    try:
        model, pairs = built("flat")
    finally:
        mixed.set_global_policy("float32")
    yolotf.load_darknet_weights(model, weights)
    foreign_models.assert_holds(pairs, weights)


def test_every_replica_is_written(weights):
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        model, pairs = built("flat")
    yolotf.load_darknet_weights(model, weights)
    foreign_models.assert_holds(pairs, weights)


@pytest.mark.slow
def test_a_traced_model_sees_the_new_weights(weights):
    model, _ = built("flat")
    run = tf.function(model)
    picture = tf.random.stateless_uniform((1, SIZE, SIZE, 3), (1, 2))
    before = run(picture)
    yolotf.load_darknet_weights(model, weights)
    after = run(picture)
    assert not np.array_equal(before[0], after[0])
    np.testing.assert_allclose(after[0], model(picture)[0], rtol=1e-4, atol=1e-4)


def test_matching_layers_load_into_a_model_with_another_head(weights):
    model, pairs = built("flat")
    inputs = foreign_models.picture()
    record = Recorder()
    _, x = foreign_models._backbone(record, inputs)
    head = record.conv(x, 32, 3)
    other = keras().Model(inputs, record.conv(head, HEAD + 3, 1, norm=False))
    report = yolotf.load_darknet_weights(other, weights, cfg=CFG, skip_mismatch=True)
    assert len(report.skipped) + len(report.untouched) == 1
    yolotf.load_darknet_weights(model, weights)
    for (kernel, _), (theirs, _) in zip(record.pairs[:-1], pairs[:-1], strict=False):
        np.testing.assert_array_equal(kernel.kernel, theirs.kernel)


REAL = ["yolo-fastest-1.1", "MobileNetV2-YOLOv3-Nano-coco", "sonhm3029__v1_b"]


@pytest.mark.parametrize("name", REAL)
def test_real_files_find_their_order_in_a_renamed_copy(name, shared):
    pairs = shared / "corpus/pairs"
    network = yolotf.parse_cfg(pairs / f"{name}.cfg")
    original = yolotf.build_model(network)
    yolotf.load_darknet_weights(original, pairs / f"{name}.weights")
    copy = _auto_named(original)
    yolotf.load_darknet_weights(copy, pairs / f"{name}.weights")
    for variable, copied in zip(original.weights, copy.weights, strict=True):
        np.testing.assert_array_equal(variable.numpy(), copied.numpy())


def _auto_named(model):
    """A copy whose layers are called conv2d_7, depthwise_conv2d_3, batch_normalization_9."""
    counts = {}
    names = {}
    for layer in sorted(model.layers, key=lambda layer: _section_number(layer.name)):
        base = {"Conv2D": "conv2d", "BatchNormalization": "batch_normalization"}.get(
            type(layer).__name__, type(layer).__name__.lower()
        )
        number = counts[base] = counts.get(base, -1) + 1
        names[layer.name] = f"{base}_{number}" if number else base

    def clone(layer):
        return type(layer).from_config({**layer.get_config(), "name": names[layer.name]})

    return keras().models.clone_model(model, clone_function=clone)


def _section_number(name):
    return [int(part) for part in name.split("_") if part.isdigit()] or [-1]
