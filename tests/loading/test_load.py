"""`load_darknet_weights`: what it writes, against a plain loader, and what it refuses."""

import errno
import os
import struct

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

import yolotf
from support import helpers, messages, numpy_loader, weights_files
from support import load_helpers as loading
from support.cfgs import conv
from support.load_helpers import EVERYTHING, PLAIN, build, content, same, scramble, snapshot
from yolotf import errors
from yolotf.loading import load
from yolotf.loading.plan import plan_for
from yolotf.weights import layout
from yolotf.weights import write as writing
from yolotf.weights.file import WeightsFile
from yolotf.weights.header import Header

HEADERS = {
    "wide": weights_files.header(7 + 2**40),
    "narrow": weights_files.header(7, version=(0, 1, 0)),
    "wide version in 16 bytes": weights_files.header(7, seen_bytes=4),
    "narrow version in 20 bytes": weights_files.header(7, version=(0, 1, 0), seen_bytes=8),
}


@pytest.fixture(scope="module")
def plain():
    return build(PLAIN)


@pytest.fixture(scope="module")
def everything():
    return build(EVERYTHING)


@pytest.fixture
def weights(tmp_path):
    """Writes a file for PLAIN, or these bytes, and returns its path."""

    def write(data=None, name="a.weights"):
        path = tmp_path / name
        path.write_bytes(content(PLAIN) if data is None else data)
        return path

    return write


def by_numpy(model, text, data):
    """The variables after a plain loader has read the file."""
    scramble(model, 1)
    numpy_loader.load(model, text, data)
    return snapshot(model)


# What is written


@pytest.mark.parametrize("header", HEADERS)
def test_every_variable_is_what_a_plain_loader_sets(everything, weights, path_taken, header):
    data = content(EVERYTHING, seed=3)
    expected = by_numpy(everything, EVERYTHING, data)
    path = weights(HEADERS[header] + data[20:])
    scramble(everything, 2)
    report = yolotf.load_darknet_weights(everything, path)
    assert same(snapshot(everything), expected)

    size_bytes = len(HEADERS[header])
    major, minor, revision = struct.unpack("<3i", HEADERS[header][:12])
    seen = 7 + 2**40 if header == "wide" else 7
    assert report.header == (major, minor, revision, seen, size_bytes)
    assert (report.path, report.path_taken) == (str(path), path_taken)
    assert (report.layers, report.variables) == (13, 40)
    assert report.floats == sum(int(np.prod(v.shape)) for v in everything.weights)
    assert report.size_bytes == path.stat().st_size == size_bytes + 4 * report.floats
    assert 0 < report.native_seconds <= report.seconds < 60
    assert report.gb_per_second == pytest.approx(4e-9 * report.floats / report.native_seconds)
    assert report.threads >= 1
    lied = [
        f"version {major}.{minor} means a header of {36 - size_bytes} bytes, but the size of the "
        f"file means one of {size_bytes}"
    ]
    assert list(report.warnings) == (lied if "version" in header else [])


def pair_files():
    folder = helpers.SHARED / "corpus/pairs"
    return [path for path in sorted(folder.glob("*.cfg")) if path.with_suffix(".weights").is_file()]


@pytest.mark.parametrize("cfg_file", helpers.cfg_params(pair_files))
def test_real_files_are_loaded_as_a_plain_loader_does(cfg_file, monkeypatch):
    text = cfg_file.read_text(encoding="utf-8", errors="replace")
    path = cfg_file.with_suffix(".weights")
    model = yolotf.build_model(yolotf.parse_cfg(cfg_file))
    data = path.read_bytes()
    expected = by_numpy(model, text, data)
    for taken in ("op", "portable"):
        if taken == "portable":
            loading.forbid_op(monkeypatch)
        scramble(model, 2)
        report = yolotf.load_darknet_weights(model, path)
        assert report.path_taken == taken
        assert same(snapshot(model), expected)
        assert report.size_bytes == len(data) == report.header.size_bytes + 4 * report.floats


def test_a_dense_kernel_that_is_stored_transposed_is_not_transposed_again(
    everything, weights, path_taken
):
    data = content(EVERYTHING)
    flipped, offset = [], 20
    for stored in numpy_loader.stored(EVERYTHING):
        size = 4 * int(np.prod(stored.shape))
        array = np.frombuffer(data[offset : offset + size], np.float32).reshape(stored.shape)
        dense = stored.kind == "connected" and stored.role == "kernel"
        flipped.append(array.T if dense else array)
        offset += size
    expected = by_numpy(everything, EVERYTHING, data)
    scramble(everything, 2)
    turned = weights_files.content(*flipped, header=weights_files.header(version=(1001, 2, 5)))
    report = yolotf.load_darknet_weights(everything, weights(turned))
    assert report.header.transposed
    assert same(snapshot(everything), expected)


def test_a_network_without_weights_has_a_file_of_a_header(weights, path_taken):
    text = "[net]\nheight=8\nwidth=8\nchannels=3\n[maxpool]\nsize=2\nstride=2\n"
    model = build(text)
    report = yolotf.load_darknet_weights(model, weights(HEADERS["wide"]))
    assert (report.floats, report.layers, report.variables) == (0, 0, 0)
    assert report.path_taken == "portable"
    path = weights(HEADERS["wide"] + bytes(12))
    with messages.refused(errors.SizeMismatchError):
        written(model, path, text)


def test_sections_behind_the_last_head_are_stepped_over(weights, path_taken):
    text = PLAIN + conv(4)
    model = build(text)
    data = content(text)
    expected = by_numpy(model, text, data)
    scramble(model, 2)
    report = yolotf.load_darknet_weights(model, weights(data))
    assert same(snapshot(model), expected)
    assert report.floats == 802
    assert report.size_bytes == 20 + 4 * (802 + 4 * 18 + 4)


@pytest.mark.slow
def test_a_traced_function_sees_the_new_weights(plain, weights, path_taken):
    picture = np.random.default_rng(0).random((1, 16, 16, 3), np.float32)
    traced = tf.function(lambda x: plain(x, training=False))
    scramble(plain)
    before = traced(picture)
    before = np.array(before[0] if isinstance(before, list) else before)
    outputs = []
    for seed in (1, 2):
        yolotf.load_darknet_weights(plain, weights(content(PLAIN, seed)))
        actual, expected = (
            np.array(output[0] if isinstance(output, list) else output)
            for output in (traced(picture), plain(picture, training=False))
        )
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
        outputs.append(actual)
    assert traced.experimental_get_tracing_count() == 1
    assert not np.allclose(outputs[0], outputs[1], atol=1e-2)
    assert not np.allclose(outputs[0], before, atol=1e-2)


IN_USER_CODE = r"(?s)(?<=\AValueError: )(in user code:.*ValueError: )?"
"""What autograph puts before a message."""


@pytest.mark.parametrize("autograph", [True, False])
@pytest.mark.parametrize("options", [{}, {"by_name": True}, {"skip_mismatch": True}, None])
def test_a_load_inside_a_function_is_refused_at_once(plain, weights, tmp_path, autograph, options):
    path = weights()

    def inside(x):
        if options is None:
            yolotf.save_darknet_weights(plain, tmp_path / "saved.weights")
        else:
            yolotf.load_darknet_weights(plain, path, **options)
        return x

    yolotf.load_darknet_weights(plain, path)
    before = snapshot(plain)
    with messages.refused(ValueError, hide=IN_USER_CODE):
        tf.function(inside, autograph=autograph)(tf.constant(1))
    assert same(snapshot(plain), before)
    assert not (tmp_path / "saved.weights").exists()
    with tf.init_scope():
        inside(0)


@pytest.mark.parametrize("kind", ["str", "path", "bytes", "not_utf8"])
def test_a_path_may_be_spelled_in_every_way(plain, weights, tmp_path, path_taken, kind):
    path = weights()
    if kind == "not_utf8":
        path = path.rename(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.weights"))
    spelled = {"str": str(path), "bytes": os.fsencode(path)}.get(kind, path)
    expected = by_numpy(plain, PLAIN, content(PLAIN))
    scramble(plain)
    assert yolotf.load_darknet_weights(plain, spelled).path == str(path)
    assert same(snapshot(plain), expected)


def test_the_arguments_of_older_loaders_are_taken(plain, weights):
    done = []
    report = yolotf.load_darknet_weights(
        plain, weights(), True, progress=lambda *numbers: done.append(numbers)
    )
    assert done == [("loading", 0, 3228), ("loading", 3228, 3228)]
    assert report.floats == 802
    with messages.refused(ValueError):
        yolotf.load_darknet_weights(plain, weights(), bn_epsilon="other")


def test_another_epsilon_is_warned_of_or_set(weights):
    model = build(PLAIN)
    norm = model.get_layer("conv_0_bn")
    assert yolotf.load_darknet_weights(model, weights()).warnings == ()
    norm.epsilon = 1e-3
    (warning,) = yolotf.load_darknet_weights(model, weights()).warnings
    messages.said(warning)
    assert norm.epsilon == 1e-3
    assert yolotf.load_darknet_weights(model, weights(), bn_epsilon="darknet").warnings == ()
    assert norm.epsilon == 1e-5


# The report


def test_report_is_readable():
    report = load.LoadReport(
        path="yolov4.weights",
        header=Header(0, 2, 5, 32032000, 20),
        layers=110,
        variables=368,
        floats=64429405,
        size_bytes=257717640,
        seconds=0.0314,
        native_seconds=0.0257717620,
        path_taken="op",
        mapped=True,
        threads=2,
        warnings=("one thing", "another"),
    )
    messages.said(str(report))


def test_the_report_of_a_private_copy_on_one_thread(plain, weights, monkeypatch):
    loading.forbid_op(monkeypatch)
    monkeypatch.setattr(writing.op_library, "thread_count", lambda: 1)
    path = weights()
    with path.open("r+b"):  # no lease while somebody has it open for writing
        report = yolotf.load_darknet_weights(plain, path)
    messages.said(str(report), hide=r"[\d.]+(?= ms| GB/s)")


# Other dtypes


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16", "float32"])
def test_float32_variables_load_as_they_are(weights, path_taken, dtype):
    model = build(EVERYTHING, dtype=dtype)
    data = content(EVERYTHING)
    expected = by_numpy(model, EVERYTHING, data)
    scramble(model, 2)
    yolotf.load_darknet_weights(model, weights(data))
    assert same(snapshot(model), expected)
    assert {variable.dtype for variable in model.weights} == {"float32"}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_variables_of_16_bits_take_rounded_numbers_with_cast(weights, path_taken, dtype):
    wide, narrow = build(EVERYTHING), build(EVERYTHING, dtype=dtype)
    data = bytearray(content(EVERYTHING))
    # Some that become infinite, subnormal or zero.
    tails = np.array([1e6, -1e6, 65520, 1e-5, -3e-8, 1e-8, 3.4e38, 1e-45], np.float32)
    data[20 : 20 + tails.nbytes] = tails.tobytes()
    path = weights(bytes(data))
    yolotf.load_darknet_weights(wide, path, verify=False)  # no trained network has 3.4e38
    scramble(narrow, 2)
    before = snapshot(narrow)
    with messages.refused(errors.ModelMismatchError):
        yolotf.load_darknet_weights(narrow, path, verify=False)
    assert same(snapshot(narrow), before)
    report = yolotf.load_darknet_weights(narrow, path, cast=True, verify=False)
    assert report.path_taken == path_taken
    rounded = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}[dtype]
    with np.errstate(over="ignore"):
        expected = {
            loading.variable_name(v): loading.bits(v.numpy().astype(rounded)) for v in wide.weights
        }
    assert same(snapshot(narrow), expected)


# What is refused: on both paths, every variable of the model stays as it was


def written(model, path, text=PLAIN):
    """Loads without a diagnosis: plan, header, native check and write."""
    plan = plan_for(model, yolotf.parse_cfg(text))
    file = WeightsFile.named(path)
    return writing.write(file.parsed(), plan, cast=False, verify=True)


def refused(model, path, error, *, call=yolotf.load_darknet_weights, hide=None, **options):
    scramble(model, 5)
    before = snapshot(model)
    with messages.refused(error, code=getattr(error, "code", None), hide=hide) as caught:
        call(model, path, **options)
    assert same(snapshot(model), before)
    assert type(caught.value) is error
    return caught.value


def facts(error, **expected):
    assert {name: getattr(error, name) for name in expected} == expected


STORED = [  # section, role, first byte, end
    (0, "beta", 20, 84),
    (0, "gamma", 84, 148),
    (0, "moving_mean", 148, 212),
    (0, "moving_variance", 212, 276),
    (0, "kernel", 276, 2004),
    (1, "bias", 2004, 2076),
    (1, "kernel", 2076, 3228),
]


@pytest.mark.slow
@pytest.mark.parametrize("part", STORED, ids=lambda part: f"{part[1]}_{part[0]}")
@pytest.mark.parametrize("place", ["at its start", "in a number", "after a number", "at its end"])
def test_a_file_cut_inside_any_array_is_too_short(plain, weights, path_taken, part, place):
    section, role, start, end = part
    size = {
        "at its start": start,
        "in a number": (start + end) // 2 + 1,
        "after a number": (start + end) // 8 * 4,
        "at its end": end - 1,
    }[place]
    path = weights(content(PLAIN)[:size])
    numbers = {"path": str(path), "section": section, "role": role, "found": size}
    numbers |= {"offset": start, "expected": end}
    error = refused(plain, path, errors.SizeMismatchError, call=written)
    facts(error, **numbers)
    error = refused(plain, path, errors.SizeMismatchError)
    facts(error, **numbers)
    assert error.diagnosis.causes


@pytest.mark.slow
def test_every_prefix_of_a_file_is_refused(plain, weights, path_taken):
    data = content(PLAIN)
    scramble(plain, 5)
    before = snapshot(plain)
    path = weights(data)
    os.truncate(path, 3228)
    for size in range(3227, -1, -7):
        os.truncate(path, size)
        with pytest.raises(errors.WeightsMismatch) as caught:
            written(plain, path)
        assert caught.value.found == size
    assert same(snapshot(plain), before)
    written(plain, weights(data))
    assert not same(snapshot(plain), before)


@pytest.mark.parametrize("size", [0, 1, 12, 15, 16, 19])
def test_a_file_shorter_than_a_header_is_refused(plain, weights, path_taken, size):
    path = weights(content(PLAIN)[:size])
    needed = 20 if size >= 16 else 16
    error = refused(plain, path, errors.HeaderError, call=written)
    facts(error, path=str(path), expected=needed, found=size)
    facts(refused(plain, path, errors.HeaderError), path=str(path), expected=needed, found=size)


@pytest.mark.parametrize("more", [1, 2, 8, 4096])
def test_file_longer_than_the_network_is_refused(plain, weights, path_taken, more):
    path = weights(content(PLAIN) + b"x" * more)
    numbers = {"path": str(path), "expected": 3228, "found": 3228 + more}
    error = refused(plain, path, errors.SizeMismatchError, call=written)
    facts(error, **numbers)
    facts(refused(plain, path, errors.SizeMismatchError), **numbers)


def test_a_file_that_ends_in_sections_the_model_does_not_use_is_too_short(weights, path_taken):
    text = PLAIN + conv(4)
    model = build(text)
    path = weights(content(text)[:3240])
    error = refused(
        model,
        path,
        errors.SizeMismatchError,
        call=lambda model, path: written(model, path, text),
    )
    facts(error, expected=3532, found=3240)
    facts(refused(model, path, errors.SizeMismatchError), expected=3532, found=3240)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("value", "detected"),
    [
        (
            -1.0,
            "negative_variance",
        ),
        *((value, "nan_or_inf") for value in (np.nan, np.inf, -np.inf)),
    ],
)
@pytest.mark.parametrize("place", [0, 7, 15])
def test_negative_or_non_finite_variance_is_refused(
    plain, weights, path_taken, value, detected, place
):
    data = bytearray(content(PLAIN))
    offset = 212 + 4 * place
    data[offset : offset + 4] = struct.pack("<f", value)
    path = weights(bytes(data))
    numbers = {
        "path": str(path),
        "section": 0,
        "layer": 0,
        "role": "moving_variance",
        "offset": offset,
        "end": offset + 4,
        "detected": detected,
        "count": 1,
    }
    error = refused(plain, path, errors.ContentError, call=written)
    facts(error, **numbers)
    error = refused(plain, path, errors.ContentError)
    facts(error, **numbers)
    # verify=False loads the number as it is.
    yolotf.load_darknet_weights(plain, path, verify=False)
    variance = plain.get_layer("conv_0_bn").moving_variance.numpy()[place]
    np.testing.assert_array_equal(variance, np.float32(value))


@pytest.mark.parametrize("value", [-1e-45, -7e-44, -1.1e-38])
def test_a_subnormal_variance_is_a_zero_whatever_its_sign(plain, weights, path_taken, value):
    data = bytearray(content(PLAIN))
    for place in (0, 7, 15):  # published MobileNetV2 files have such dead channels
        data[212 + 4 * place : 216 + 4 * place] = struct.pack("<f", value)
    report = yolotf.load_darknet_weights(plain, weights(bytes(data)))
    assert report.warnings == ()
    variance = plain.get_layer("conv_0_bn").moving_variance.numpy()[[0, 7, 15]]
    assert (loading.bits(variance) == loading.bits(np.full(3, value, np.float32))).all()


ARRAYS = (  # of PLAIN: section, role, first byte, floats
    (0, "beta", 20, 16),
    (0, "gamma", 84, 16),
    (0, "moving_mean", 148, 16),
    (0, "moving_variance", 212, 16),
    (0, "kernel", 276, 432),
    (1, "bias", 2004, 18),
    (1, "kernel", 2076, 288),
)


@pytest.mark.slow
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("section", "role", "start", "count"), ARRAYS)
def test_a_number_that_is_not_finite_is_refused_in_every_role(
    plain, weights, path_taken, section, role, start, count, value
):
    data = bytearray(content(PLAIN))
    for place in (2, count - 3):
        data[start + 4 * place : start + 4 * place + 4] = struct.pack("<f", value)
    path = weights(bytes(data))
    error = refused(plain, path, errors.ContentError)
    facts(error, section=section, layer=section, role=role, detected="nan_or_inf", count=2)
    facts(error, offset=start + 8, end=start + 4 * (count - 2))
    yolotf.load_darknet_weights(plain, path, verify=False)


def swap(model, layer, attribute, variable):
    """Puts another `tf.Variable` into a layer."""
    getattr(model.get_layer(layer), attribute)._value = variable


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layer", "attribute", "shape", "expected"),
    [
        ("conv_0", "kernel", (3, 3, 3, 17), (3, 3, 3, 16)),
        ("conv_0", "kernel", (3, 3, 4, 16), (3, 3, 3, 16)),
        ("conv_0", "kernel", (27, 16), (3, 3, 3, 16)),
        ("conv_0", "kernel", (3, 3, 3, 16, 1), (3, 3, 3, 16)),
        ("conv_0", "kernel", (), (3, 3, 3, 16)),
        ("conv_1", "kernel", (18, 16), (16, 18)),
        ("conv_0_bn", "gamma", (15,), (16,)),
        ("conv_0_bn", "moving_variance", (16, 1), (16,)),
        ("conv_1", "bias", (0,), (18,)),
        ("conv_1", "bias", (1,) * 9, (18,)),
    ],
)
def test_a_variable_of_another_shape_is_refused(
    weights, path_taken, layer, attribute, shape, expected
):
    model = build(PLAIN)
    swap(model, layer, attribute, tf.Variable(tf.ones(shape)))
    path = weights()
    error = refused(model, path, errors.ModelMismatchError, call=written)
    facts(
        error,
        path=str(path),
        variable=f"{layer}/{attribute}",
        role=attribute,
        section=int(layer[5]),
        expected=expected,
        found=shape,
    )
    diagnosed = refused(model, path, errors.ModelMismatchError)
    facts(diagnosed, variable=f"{layer}/{attribute}", found=shape)
    assert str(diagnosed) == str(error)


@pytest.mark.parametrize(
    ("dtype", "cast"),
    [
        ("float16", False),
        ("bfloat16", False),
        ("int32", True),
        ("int8", False),
    ],
)
def test_a_variable_of_another_dtype_is_refused(weights, path_taken, dtype, cast):
    model = build(PLAIN)
    swap(model, "conv_1", "kernel", tf.Variable(tf.ones((1, 1, 16, 18), dtype)))
    path = weights()
    error = refused(model, path, errors.ModelMismatchError, cast=cast)
    facts(error, variable="conv_1/kernel", expected="float32", found=dtype, section=1)


def test_an_uninitialized_variable_is_refused(weights, path_taken):
    from tensorflow.python.ops.resource_variable_ops import UninitializedVariable

    model = build(PLAIN)
    scramble(model)
    before = snapshot(model)
    gamma = model.get_layer("conv_0_bn").gamma
    initialized = gamma._value
    gamma._value = UninitializedVariable(shape=[16], dtype=tf.float32)
    path = weights()
    with messages.refused(errors.ModelMismatchError, code="model-mismatch") as caught:
        yolotf.load_darknet_weights(model, path)
    facts(caught.value, variable="conv_0_bn/gamma", role="gamma", section=0)
    assert not bool(gamma._value.is_initialized())
    gamma._value = initialized
    assert same(snapshot(model), before)


def test_a_variable_of_a_graph_is_refused(weights, path_taken):
    model = build(PLAIN)
    scramble(model)
    before = snapshot(model)
    gamma = model.get_layer("conv_0_bn").gamma
    eager = gamma._value
    with tf.Graph().as_default():
        gamma._value = tf.compat.v1.get_variable("gamma", [16], use_resource=True)
    path = weights()
    with messages.refused(errors.ModelMismatchError, code="model-mismatch") as caught:
        yolotf.load_darknet_weights(model, path)
    facts(caught.value, variable="conv_0_bn/gamma", role="gamma", section=0)
    gamma._value = eager
    assert same(snapshot(model), before)


def test_variable_that_is_used_twice_is_refused(weights, path_taken):
    model = build(PLAIN)
    norm = model.get_layer("conv_0_bn")
    norm.moving_mean._value = norm.beta._value
    path = weights()
    error = refused(model, path, errors.ModelMismatchError)
    facts(error, variable="conv_0_bn/moving_mean", role="moving_mean", section=0)


def test_a_model_without_one_of_the_layers_is_refused(weights, path_taken):
    model = build(PLAIN, name="detector")
    model.get_layer("conv_0_bn").name = "something"
    error = refused(model, weights(), errors.ModelMismatchError)
    facts(error, section=0, role="beta")


def test_a_model_that_is_not_built_is_refused(weights, path_taken):
    keras = tf.keras
    model = keras.Sequential([keras.layers.Conv2D(16, 3, name="conv_0")], name="mine")
    with messages.refused(errors.ModelMismatchError, code="model-mismatch"):
        yolotf.load_darknet_weights(model, weights(), cfg=yolotf.parse_cfg(PLAIN))


@pytest.mark.parametrize(
    ("kind", "error", "number"),
    [
        ("missing", FileNotFoundError, errno.ENOENT),
        ("directory", IsADirectoryError, errno.EISDIR),
        ("fifo", OSError, errno.EINVAL),
        ("device", OSError, errno.EINVAL),
        ("below a file", NotADirectoryError, errno.ENOTDIR),
    ],
)
def test_unreadable_file_is_an_os_error(plain, weights, tmp_path, path_taken, kind, error, number):
    path = {
        "directory": tmp_path,
        "device": "/dev/zero",
        "below a file": weights() / "below",
    }.get(kind, tmp_path / kind)
    if kind == "fifo":
        os.mkfifo(path)
    raised = refused(plain, path, error)
    assert (raised.errno, raised.filename) == (number, str(path))


def test_a_path_with_a_null_byte_is_not_cut_there(plain, weights, path_taken):
    refused(plain, f"{weights()}\0x", ValueError, hide="embedded null byte")


@pytest.mark.parametrize("moment", ["header", "gone"])
def test_a_file_replaced_after_its_header_was_read_is_refused(
    plain, weights, path_taken, monkeypatch, moment
):
    path = weights()
    other = weights(weights_files.header(1) + content(PLAIN, seed=1)[20:], "other")
    write = writing.write

    def replace_and_write(*arguments, **options):
        if moment == "header":
            other.replace(path)
        else:
            path.unlink()
        return write(*arguments, **options)

    monkeypatch.setattr(writing, "write", replace_and_write)
    if moment == "gone":
        refused(plain, path, FileNotFoundError)
        return
    error = refused(plain, path, errors.FileChangedError)
    facts(error, path=str(path))
    monkeypatch.undo()
    yolotf.load_darknet_weights(plain, path)


def test_an_assignment_that_fails_leaves_every_variable_as_it_was(weights, monkeypatch):
    """Only the portable path can fail while it writes: memory runs out, or Ctrl-C."""
    loading.forbid_op(monkeypatch)
    model = build(PLAIN)
    assign = tf.raw_ops.AssignVariableOp
    calls = []

    def fail_once(**arguments):
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return assign(**arguments)

    scramble(model, 5)
    before = snapshot(model)
    monkeypatch.setattr(tf.raw_ops, "AssignVariableOp", fail_once)
    with pytest.raises(KeyboardInterrupt):
        yolotf.load_darknet_weights(model, weights())
    assert len(calls) > 4
    assert same(snapshot(model), before)


def test_every_mismatch_is_a_value_error_and_an_assertion_error(plain, weights):
    path = weights(content(PLAIN)[:-8])
    for caught in (ValueError, AssertionError, yolotf.WeightsMismatch, yolotf.YolotfError):
        with pytest.raises(caught):
            yolotf.load_darknet_weights(plain, path)


def test_a_plan_that_describes_no_array_is_refused(plain, weights, path_taken):
    """No cfg leads to such a plan; this check is the last line of defence."""
    network = yolotf.parse_cfg(PLAIN)
    plan = plan_for(plain, network)
    first = plan.assignments[0]
    wrong = layout.Assignment(first.segment, first.slot, (15,), 1, 1, 16, 1)
    path = weights()
    scramble(plain)
    before = snapshot(plain)
    with messages.refused(errors.ModelMismatchError):
        writing.write(
            WeightsFile.named(path).parsed(plan.floats),
            layout.Plan((*plan.assignments[1:], wrong), plan.floats, network),
            cast=False,
            verify=True,
        )
    assert same(snapshot(plain), before)
