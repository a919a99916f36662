"""`.weights` files in other formats, read back with each format's own library.

What comes back is compared with a Keras model that `numpy_loader` filled from the same file.
"""

import contextlib
import errno
import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from safetensors import safe_open
from safetensors.numpy import load_file

from support import helpers, numpy_loader
from support.cfgs import conv, maxpool, net, normalized, route, section, shortcut, yolo
from support.messages import refused, said
from yolotf import errors
from yolotf.cli import commands as cli
from yolotf.darknet import cfg
from yolotf.formats import convert as convert_module
from yolotf.formats.convert import SAVED_MODEL, convert, format_of, write_anchors
from yolotf.models.build import build_model
from yolotf.models.keras_module import keras

pytestmark = pytest.mark.filterwarnings(r"ignore:\s*Warning. tf.lite.Interpreter:UserWarning")

NET = net(32)
ANCHORS = "10,14,23,27,37,58,81,82,135,169,344,319"


def head(mask):
    return conv(21) + yolo(2, ANCHORS, mask, num=6)


# Two heads behind most of what detectors are made of.
DETECTOR = (
    NET
    + normalized(8, 3, stride=2)
    + normalized(16, 3, "mish")
    + section("route", layers=-1, groups=2, group_id=1)
    + normalized(8, 3, "swish", groups=8)
    + normalized(16, 3, groups=2)
    + shortcut(1)
    + maxpool(2)
    + normalized(64, 3, "relu")
    + head("3,4,5")
    + route(-3)
    + section("upsample", stride=2)
    + route(-1, 5)
    + head("0,1,2")
)
# Every other section and activation that TensorFlow Lite can express.
REST = (
    NET
    + normalized(8, 3, stride_y=1, stride_x=2)
    + normalized(16, 3, stride_y=2, stride_x=1)
    + "".join(
        normalized(8, 3, activation)
        for activation in sorted(cfg.ACTIVATIONS)
        if not activation.startswith(("normalize", "stair"))
    )
    + normalized(16, 3, "normalize_channels", groups=4)
    + normalized(16, 3, dilation=2, groups=2)
    + normalized(16, 3, dilation=2)
    + "[reorg]\nstride=2\n"
    + normalized(16, 3)
    + "[reorg3d]\nstride=2\n"
    + normalized(16, 3)
    + "[upsample]\nstride=2\n[local_avgpool]\nsize=3\nstride=1\n[maxpool]\nsize=5\nstride=1\n"
    + "[avgpool]\n"
    + normalized(16, 1, "logistic")
    + "[scale_channels]\nfrom=-3\n"
    + normalized(16, 3, "logistic")
    + "[sam]\nfrom=-2\n"
    + "[shortcut]\nfrom=-3,-2\nactivation=leaky\nweights_type=per_channel\n"
    + "weights_normalization=softmax\n"
    + normalized(12, 3)
    + "[shortcut]\nfrom=-2\nactivation=linear\n"
    + "[normalization]\nsize=3\n[maxpool]\nmaxpool_depth=1\nout_channels=5\n"
    + "[crop]\ncrop_width=6\ncrop_height=7\n[batchnorm]\n[dropout]\nprobability=.5\n"
    + "[connected]\noutput=12\nactivation=leaky\nbatch_normalize=1\n[softmax]\ngroups=3\n"
)
FILES = (".keras", ".weights.h5", ".h5", ".tflite", ".safetensors", ".onnx")
FORMATS = (*FILES, SAVED_MODEL)


def output_in(folder, kind):
    return folder / ("model" if kind == SAVED_MODEL else f"model{kind}")


def write_weights(folder, text):
    path = folder / "net.weights"
    path.write_bytes(numpy_loader.random_file(text))
    return path


def reference(text, **options):
    """A model filled without yolotf's loader, and its heads."""
    model = build_model(cfg.parse_cfg(text, **options))
    numpy_loader.load(model, text, numpy_loader.random_file(text))
    return model, lambda pictures: as_list(model(pictures, training=False))


def as_list(heads):
    heads = heads if isinstance(heads, list | tuple) else [heads]
    return [np.asarray(head) for head in heads]


def pictures_for(text, batch=2, **options):
    shape = cfg.parse_cfg(text, **options).input_shape
    return np.random.default_rng(3).random((batch, *shape), dtype=np.float32)


def assert_same_variables(model, other):
    assert len(model.weights) == len(other.weights) > 20
    for mine, theirs in zip(model.weights, other.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(mine), np.asarray(theirs))


def entries(folder):
    return sorted(path.name for path in folder.iterdir())


def assert_close(ours, theirs):
    assert len(ours) == len(theirs) > 0
    for actual, other in zip(ours, theirs, strict=True):
        assert actual.shape == other.shape
        assert other.std() > 1e-3 * np.abs(other).max() > 0, "a constant proves nothing"
        np.testing.assert_allclose(actual, other, rtol=0, atol=2e-5 * np.abs(other).max())


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("weights"), DETECTOR)


@pytest.fixture(scope="module")
def expected():
    return reference(DETECTOR)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [".keras", ".h5"])
@pytest.mark.parametrize("text", [DETECTOR, REST], ids=["detector", "rest"])
def test_a_saved_keras_model_has_the_same_heads(tmp_path, kind, text):
    output = output_in(tmp_path, kind)
    done = convert(write_weights(tmp_path, text), text, output)
    assert done.size_bytes == output.stat().st_size
    again = keras().models.load_model(output, compile=False)
    model, heads = reference(text)
    assert_same_variables(again, model)
    pictures = pictures_for(text)
    assert_close(as_list(again(pictures, training=False)), heads(pictures))


@pytest.mark.parametrize("kind", [".weights.h5", ".h5"])
def test_keras_loads_the_weights_into_a_fresh_model(tmp_path, weights, expected, kind):
    output = output_in(tmp_path, kind)
    convert(weights, DETECTOR, output)
    fresh = build_model(cfg.parse_cfg(DETECTOR))
    fresh.load_weights(output)
    assert_same_variables(fresh, expected[0])


def test_a_savedmodel_answers_with_the_heads_in_cfg_order(tmp_path, weights, expected):
    done = convert(weights, DETECTOR, tmp_path / "served")
    assert done.format == SAVED_MODEL
    files = [path for path in (tmp_path / "served").rglob("*") if path.is_file()]
    assert done.size_bytes == sum(file.stat().st_size for file in files)
    function = tf.saved_model.load(tmp_path / "served").signatures["serving_default"]
    pictures = pictures_for(DETECTOR)
    outputs = function(images=tf.constant(pictures))
    assert sorted(outputs) == ["output_0", "output_1"]
    assert_close([np.asarray(outputs[f"output_{i}"]) for i in range(2)], expected[1](pictures))


READ_ELSEWHERE = """
import sys, numpy, tensorflow as tf
folder, model, pictures, out = sys.argv[1:]
pictures = numpy.load(pictures)
found = tf.saved_model.load(folder).signatures["serving_default"](images=tf.constant(pictures))
assert "yolotf" not in sys.modules
import yolotf.keras_layers
heads = tf.keras.models.load_model(model, compile=False)(pictures, training=False)
numpy.savez(out, *[found[f"output_{i}"] for i in range(2)], *heads)
"""


@pytest.mark.slow
def test_other_processes_need_yolotf_for_keras_files_only(tmp_path, weights, expected):
    folder, model = tmp_path / "served", tmp_path / "model.keras"
    convert(weights, DETECTOR, folder)
    convert(weights, DETECTOR, model)
    pictures = pictures_for(DETECTOR)
    np.save(tmp_path / "pictures.npy", pictures)
    files = [folder, model, tmp_path / "pictures.npy", tmp_path / "heads.npz"]
    subprocess.run([sys.executable, "-c", READ_ELSEWHERE, *map(str, files)], check=True)
    with np.load(tmp_path / "heads.npz") as read:
        heads = [read[f"arr_{i}"] for i in range(4)]
    assert_close(heads, expected[1](pictures) * 2)


@pytest.mark.slow
@pytest.mark.parametrize("text", [DETECTOR, REST], ids=["detector", "rest"])
def test_tensorflow_lite_has_the_same_heads(tmp_path, text):
    output = tmp_path / "model.tflite"
    convert(write_weights(tmp_path, text), text, output)
    runner = tf.lite.Interpreter(str(output)).get_signature_runner("serving_default")
    pictures = pictures_for(text, batch=1)
    outputs = runner(images=pictures)
    theirs = reference(text)[1](pictures)
    assert_close([outputs[f"output_{i}"] for i in range(len(theirs))], theirs)


@pytest.mark.parametrize(
    "section",
    [
        "[maxpool]\nsize=3\nstride=2\n",
        "[local]\nsize=3\nstride=1\npad=1\nfilters=4\nactivation=leaky\n",
    ],
)
def test_what_tensorflow_lite_lacks_is_named_with_its_line(tmp_path, section):
    text = NET + normalized(8, 3) + section + normalized(8, 3)
    weights = write_weights(tmp_path, text)
    output = tmp_path / "model.tflite"
    output.write_text("old")
    with refused(errors.UnsupportedSectionError) as e:
        convert(weights, text, output)
    assert (e.value.layer, e.value.line) == (1, text.splitlines().index(section.split()[0]) + 1)
    assert output.read_text() == "old"
    convert(weights, text, tmp_path / "served")


TORCH = {
    "kernel": "conv_{}.weight",
    "bias": "conv_{}.bias",
    "beta": "bn_{}.bias",
    "gamma": "bn_{}.weight",
    "moving_mean": "bn_{}.running_mean",
    "moving_variance": "bn_{}.running_var",
}


def test_safetensors_for_pytorch_have_its_names_and_order(tmp_path, weights):
    output = tmp_path / "model.safetensors"
    convert(weights, DETECTOR, output, layout="torch", class_names=["a cat", "dog"])
    arrays = numpy_loader.arrays(DETECTOR, weights.read_bytes())
    expected = {TORCH[array.role].format(array.index): values for array, values in arrays.items()}
    written = load_file(output)
    assert set(written) == set(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(written[name], values)
    with safe_open(output, "np") as file:
        metadata = file.metadata()
    assert (metadata["format"], metadata["names"]) == ("pt", "a cat\ndog")
    assert cfg.parse_cfg(metadata["cfg"]).to_cfg() == cfg.parse_cfg(DETECTOR).to_cfg()


def test_pytorch_arrays_compute_the_same_outputs(tmp_path):
    """A dense layer behind a plane of several pixels, and kernels that are stored flipped."""
    text = net(6, 8) + conv(4, 3, flipped=1) + "[connected]\noutput=5\nactivation=linear\n"
    output = tmp_path / "model.safetensors"
    convert(write_weights(tmp_path, text), text, output, layout="torch")
    arrays = load_file(output)
    (picture,) = pictures_for(text, batch=1).transpose(0, 3, 1, 2)
    padded = np.pad(picture, [(0, 0), (1, 1), (1, 1)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    plane = np.einsum("ihwyx,oiyx->ohw", windows, arrays["conv_0.weight"])
    plane += arrays["conv_0.bias"][:, None, None]
    answer = arrays["connected_1.weight"] @ plane.ravel() + arrays["connected_1.bias"]
    (expected,) = reference(text)[1](picture.transpose(1, 2, 0)[None])
    np.testing.assert_allclose(answer, expected.ravel(), rtol=1e-4, atol=1e-5)


def test_layout_is_refused_for_other_formats(tmp_path, weights):
    for ending, layout in ((".onnx", "torch"), (".safetensors", "NHWC"), (".keras", "torch")):
        with refused(errors.YolotfError):
            convert(weights, DETECTOR, tmp_path / f"model{ending}", layout=layout)
    with refused(errors.YolotfError):
        convert(weights, DETECTOR, tmp_path / "model.onnx", layout="x")


def test_safetensors_hold_every_array_bit_for_bit(tmp_path, weights):
    output = tmp_path / "model.safetensors"
    convert(weights, DETECTOR, output)
    expected = {}
    for array, values in numpy_loader.arrays(DETECTOR, weights.read_bytes()).items():
        layer = f"conv_{array.index}" + ("_bn" if array.role in numpy_loader.NORM_ROLES else "")
        if array.role == "kernel":
            values = values.transpose(2, 3, 1, 0)
            if array.index == 3:  # eight groups of eight channels: (size, size, channels, 1)
                values = values.transpose(0, 1, 3, 2)
        expected[f"{layer}/{array.role}"] = values
    # tf_keras calls the kernel of a depthwise convolution otherwise.
    tensors = {
        name.replace("/depthwise_", "/"): values for name, values in load_file(output).items()
    }
    assert set(tensors) == set(expected)
    for name, values in expected.items():
        assert tensors[name].dtype == np.float32
        np.testing.assert_array_equal(tensors[name], values)
    with safe_open(output, "np") as file:
        metadata = file.metadata()
    read, written = (cfg.parse_cfg(text) for text in (metadata["cfg"], DETECTOR))
    assert helpers.network_facts(read) == helpers.network_facts(written)
    assert (metadata["darknet_version"], metadata["seen"]) == ("0.2.5", "0")


def test_without_safetensors_the_extra_is_named_before_any_work(tmp_path, monkeypatch, weights):
    for name in [module for module in sys.modules if module.split(".")[0] == "safetensors"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    stages = []
    with refused(ImportError):
        convert(
            weights,
            DETECTOR,
            tmp_path / "model.safetensors",
            progress=lambda *call: stages.append(call),
        )
    assert (stages, entries(tmp_path)) == ([], [])


def test_progress_names_each_stage_before_it_begins(tmp_path, weights):
    stages = []
    done = convert(
        weights, DETECTOR, tmp_path / "m.weights.h5", progress=lambda *call: stages.append(call)
    )
    size = weights.stat().st_size
    assert stages == [
        *(("building", done, 1) for done in (0, 1)),
        *(("loading", done, size) for done in (0, size)),
        *(("writing", done, 1) for done in (0, 1)),
    ]
    convolutions = DETECTOR.count("[convolutional]")
    floats = (weights.stat().st_size - 20) // 4
    assert (done.loaded.layers, done.loaded.floats) == (convolutions, floats)
    assert f"{convolutions} layers, {floats:,} floats" in str(done)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [".keras", SAVED_MODEL])
def test_any_size_model_matches_models_of_fixed_sizes(tmp_path, weights, kind):
    output = output_in(tmp_path, kind)
    convert(weights, DETECTOR, output, any_size=True)
    if kind == SAVED_MODEL:
        served = tf.saved_model.load(output).signatures["serving_default"]

        def run(pictures):
            outputs = served(images=tf.constant(pictures))
            return [np.asarray(outputs[f"output_{i}"]) for i in range(2)]
    else:
        model = keras().models.load_model(output, compile=False)

        def run(pictures):
            return as_list(model(pictures, training=False))

    for size in ((32, 32), (48, 20)):
        pictures = pictures_for(DETECTOR, size=size)
        assert_close(run(pictures), reference(DETECTOR, size=size)[1](pictures))


@pytest.mark.parametrize(
    "section",
    [
        "[reorg]\nstride=2\n",
        "[connected]\noutput=12\n",
        "[crop]\ncrop_width=6\ncrop_height=7\n",
        "[maxpool]\nmaxpool_depth=1\nout_channels=4\n",
        "[shortcut]\nfrom=-2\nactivation=linear\n",
    ],
)
def test_any_size_is_refused_where_a_section_fixes_it(tmp_path, section):
    text = NET + normalized(4, 3) + normalized(8, 3) + section
    with refused(errors.UnsupportedSectionError) as error:
        convert(write_weights(tmp_path, text), text, tmp_path / "m.keras", any_size=True)
    assert error.value.layer == 2


def test_any_size_is_refused_where_the_stride_does_not_divide_the_size(tmp_path):
    text = NET.replace("32", "30") + normalized(4, 3, stride=2) + normalized(4, 3, stride=2)
    with refused(errors.UnsupportedSectionError):
        convert(write_weights(tmp_path, text), text, tmp_path / "m.keras", any_size=True)


def test_reverse_outputs_reverses_the_heads(tmp_path, weights, expected):
    output = tmp_path / "m.keras"
    convert(weights, DETECTOR, output, reverse_outputs=True)
    pictures = pictures_for(DETECTOR)
    outputs = as_list(keras().models.load_model(output, compile=False)(pictures, training=False))
    for head, other in zip(outputs, expected[1](pictures)[::-1], strict=True):
        np.testing.assert_array_equal(head, other)


def test_class_count_and_size_replace_those_of_the_cfg(tmp_path, weights, expected):
    other = cfg.parse_cfg(DETECTOR).with_classes(7).to_cfg()
    output = tmp_path / "m.keras"
    convert(weights, other, output, classes=2, size=(64, 32))
    model = keras().models.load_model(output, compile=False)
    assert tuple(model.inputs[0].shape) == (None, 64, 32, 3)
    np.testing.assert_array_equal(np.asarray(model.weights[0]), np.asarray(expected[0].weights[0]))


# What must not happen to what is there.


@pytest.fixture
def full_disk(tmp_path, weights):
    """No file here can grow beyond a third of the weights, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    @contextlib.contextmanager
    def full():
        resource.setrlimit(resource.RLIMIT_FSIZE, (weights.stat().st_size // 3, limits[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    return full


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write_old(folder, weights, kind):
    output = output_in(folder, kind)
    if kind == SAVED_MODEL:
        convert(weights, DETECTOR, output)
    else:
        output.write_text("old")
    return output


@pytest.mark.parametrize("kind", FORMATS)
def test_nothing_is_written_without_enough_disk_space(tmp_path, weights, full_disk, kind):
    output = write_old(tmp_path, weights, kind)
    before = contents(tmp_path)
    stages = []
    with full_disk(), pytest.raises(OSError) as error:  # noqa: PT011 - errno below
        convert(weights, DETECTOR, output, progress=lambda *call: stages.append(call))
    assert (error.value.errno, error.value.filename) == (errno.EFBIG, str(output))
    assert stages == []
    assert (contents(tmp_path), entries(tmp_path)) == (before, [output.name])


# HDF5 crashes the process when it runs out of room: why room is asked for first.
@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in FORMATS if not kind.endswith("h5")])
def test_a_write_that_fails_half_way_leaves_what_was_there(
    tmp_path, weights, full_disk, kind, monkeypatch
):
    output = write_old(tmp_path, weights, kind)
    before = contents(tmp_path)
    monkeypatch.setattr(convert_module.output_target, "check_space", lambda *_: None)
    with full_disk(), pytest.raises(OSError) as error:  # noqa: PT011 - errno below
        convert(weights, DETECTOR, output)
    assert (error.value.errno, error.value.filename) == (errno.EFBIG, str(output))
    assert (contents(tmp_path), entries(tmp_path)) == (before, [output.name])


def test_an_interrupted_write_leaves_what_was_there(tmp_path, weights, monkeypatch):
    def interrupted(source, path):
        path.write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setitem(convert_module._WRITERS, ".keras", interrupted)
    output = tmp_path / "m.keras"
    output.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        convert(weights, DETECTOR, output)
    assert (entries(tmp_path), output.read_text()) == (["m.keras"], "old")


@pytest.mark.slow
def test_an_old_savedmodel_is_replaced_whole_and_other_files_stay(tmp_path, weights):
    output = tmp_path / "served"
    convert(weights, DETECTOR, output)
    before = (output / "variables/variables.data-00000-of-00001").read_bytes()
    others = {
        "notes.txt": b"notes",
        "assets.extra/labels.json": b"[]",
        "assets/labels.txt": b"a",
        "variables/only_copy.weights": b"weights",
    }
    for name, content in others.items():
        (output / name).parent.mkdir(exist_ok=True)
        (output / name).write_bytes(content)
    # The warmup requests of an older export are for its signatures, not for the new ones.
    of_the_old = [
        "assets/classes.names",
        "assets.extra/classes.names",
        "assets.extra/tf_serving_warmup_requests",
    ]
    for name in of_the_old:
        (output / name).touch()
    (output / "saved_model.pb").write_bytes(b"old")
    convert(weights, DETECTOR, f"{output}/")
    assert {name: (output / name).read_bytes() for name in others} == others
    assert (output / "saved_model.pb").read_bytes() != b"old"
    assert (output / "variables/variables.data-00000-of-00001").read_bytes() == before
    assert [name for name in of_the_old if (output / name).exists()] == []
    assert entries(tmp_path) == ["served"]


@pytest.mark.slow
def test_savedmodel_is_written_into_a_folder_with_other_files(tmp_path, weights):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.txt").write_text("years of work")
    convert(weights, DETECTOR, f"{tmp_path}/out/", overwrite=False)
    assert (tmp_path / "out/thesis.txt").read_text() == "years of work"
    assert (tmp_path / "out/saved_model.pb").is_file()
    assert entries(tmp_path) == ["out"]


@pytest.mark.parametrize(
    ("output", "error"),
    [
        ("there/m.keras", FileNotFoundError),
        ("file/", FileExistsError),
        ("folder.keras", IsADirectoryError),
    ],
)
def test_impossible_outputs_are_refused_before_any_work(tmp_path, weights, output, error):
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder.keras").mkdir()
    stages = []
    with refused(error):
        convert(
            weights, DETECTOR, f"{tmp_path}/{output}", progress=lambda *call: stages.append(call)
        )
    assert stages == []


def test_symbolic_links_stay_and_their_files_are_replaced(tmp_path, weights):
    (tmp_path / "elsewhere").mkdir()
    link, real = tmp_path / "m.keras", tmp_path / "elsewhere/real.keras"
    real.write_text("old")
    link.symlink_to(real)
    convert(weights, DETECTOR, link)
    assert link.is_symlink()
    assert real.read_bytes()[:2] == b"PK"


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMATS)
def test_owner_and_mode_of_what_is_replaced_are_kept(tmp_path, weights, kind):
    output = write_old(tmp_path, weights, kind)
    for path in (output, *output.rglob("*")):
        if not os.geteuid():
            os.chown(path, 12345, 23456)
        path.chmod(0o2770 if path.is_dir() else 0o640)
    convert(weights, DETECTOR, output)
    for path in (output, *output.rglob("*")):
        status = path.stat()
        assert stat.S_IMODE(status.st_mode) == (0o2770 if path.is_dir() else 0o640)
        if not os.geteuid():
            assert (status.st_uid, status.st_gid) == (12345, 23456)


@pytest.mark.parametrize("kind", FORMATS)
def test_devices_and_fifos_are_not_replaced(tmp_path, weights, kind):
    output = output_in(tmp_path, kind)
    os.mkfifo(output)
    stages = []
    with refused(OSError):
        convert(weights, DETECTOR, output, progress=lambda *call: stages.append(call))
    assert stages == []
    assert stat.S_ISFIFO(output.stat().st_mode)
    output.unlink()
    output.symlink_to("/dev/null")
    with refused(OSError):
        convert(weights, DETECTOR, output)
    assert stat.S_ISCHR(output.stat().st_mode)


def test_mismatching_weights_are_diagnosed(tmp_path, weights):
    for content in (weights.read_bytes()[:-800], b"<html></html>" * 999, b"short"):
        (tmp_path / "bad.weights").write_bytes(content)
        with pytest.raises(errors.WeightsMismatch) as caught:
            convert(tmp_path / "bad.weights", DETECTOR, tmp_path / "m.keras")
        assert caught.value.diagnosis.causes
        assert str(caught.value) == caught.value.diagnosis.summary()
    assert entries(tmp_path) == ["bad.weights"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", FILES)
def test_new_files_have_the_usual_permissions(tmp_path, weights, kind):
    output, other = output_in(tmp_path, kind), tmp_path / "other"
    other.touch()
    convert(weights, DETECTOR, output)
    assert stat.S_IMODE(output.stat().st_mode) == stat.S_IMODE(other.stat().st_mode)


@pytest.mark.parametrize(
    ("output", "kind"),
    [
        ("a/b.keras", ".keras"),
        ("b.weights.h5", ".weights.h5"),
        ("b.h5", ".h5"),
        ("weights.tflite", ".tflite"),
        (Path("v1.2/b.safetensors"), ".safetensors"),
        ("served", SAVED_MODEL),
        ("v1.2/", SAVED_MODEL),
        ("a.b/served", SAVED_MODEL),
    ],
)
def test_the_ending_decides_the_format(output, kind):
    assert format_of(output) == kind


@pytest.mark.parametrize("output", ["a.pb", "a.pt", "a.weights", "v1.2", "a.KERAS"])
def test_unknown_ending_is_refused_with_the_supported_ones(output):
    with refused(errors.YolotfError, endings=FILES):
        format_of(output)


# The command.


@pytest.fixture
def files(tmp_path, weights):
    """A cfg, a weights file and the folder they are in."""
    (tmp_path / "net.cfg").write_text(DETECTOR)
    (tmp_path / "net.weights").write_bytes(weights.read_bytes())
    return str(tmp_path / "net.cfg"), str(tmp_path / "net.weights"), tmp_path


def test_convert_command_writes_the_file_and_a_report(files, capsys):
    source, weights, folder = files
    output = folder / "m.keras"
    assert (
        cli.main(["convert", weights, "--cfg", source, "-o", str(output), "--size", "64x32"]) == 0
    )
    printed = capsys.readouterr()
    assert printed.out.startswith(f"{weights} -> {output}: 7 layers, ")
    assert printed.out.count("\n") == 1
    said(printed.err)
    model = keras().models.load_model(output, compile=False)
    assert tuple(model.inputs[0].shape) == (None, 32, 64, 3)


def test_a_terminal_shows_the_stages_as_a_bar(files, terminal, capsys):
    source, weights, folder = files
    with terminal() as shown:
        assert cli.main(["convert", weights, "--cfg", source, "-o", f"{folder}/m.h5"]) == 0
    assert "writing" in shown.getvalue()
    assert "━" in shown.getvalue()
    assert "..." not in shown.getvalue()
    assert capsys.readouterr().out.startswith(f"{weights} -> {folder}/m.h5: ")


def test_convert_takes_three_files_as_older_converters_do(files, capsys):
    source, weights, folder = files
    output = folder / "yolo.h5"
    assert cli.main(["convert", "-p", "-w", source, weights, str(output)]) == 0
    printed = capsys.readouterr()
    assert (folder / "yolo_anchors.txt").read_text() == ANCHORS + "\n"
    assert printed.out.splitlines()[1] == f"anchors -> {folder / 'yolo_anchors.txt'}"
    said(printed.err)
    model = keras().models.load_model(output, compile=False)
    assert tuple(model.inputs[0].shape) == (None, None, None, 3)
    # The coarse head comes first in this cfg.
    assert [head.shape[1] for head in model(np.zeros((1, 64, 64, 3), np.float32))] == [16, 32]


def test_flags_of_older_converters_do_what_they_did(files):
    source, weights, folder = files
    output = folder / "yolo.h5"
    assert cli.main(["convert", source, weights, str(output), "-f", "-r"]) == 0
    model = keras().models.load_model(output, compile=False)
    assert tuple(model.inputs[0].shape) == (None, 32, 32, 3)
    assert [head.shape[1] for head in model.outputs] == [16, 8]


def test_older_converters_arguments_for_a_network_of_one_size(files, capsys):
    _, weights, folder = files
    text = NET + normalized(8, 3) + "[reorg]\nstride=2\n" + conv(14)
    text += "[region]\nanchors=0.5,1.25, 3,4\nclasses=2\nnum=2\ncoords=4\nsoftmax=1\n"
    source = folder / "v2.cfg"
    source.write_text(text)
    Path(weights).write_bytes(numpy_loader.random_file(text))
    output = folder / "v2.h5"
    assert cli.main(["convert", str(source), weights, str(output)]) == 0
    said(capsys.readouterr().err)
    # Grid cells of two pixels.
    assert (folder / "v2_anchors.txt").read_text() == "1.0, 2.5, 6.0, 8.0\n"
    assert cli.main(["convert", "-flcl", str(source), weights, str(output)]) == 2
    said(capsys.readouterr().err)


def test_a_network_without_anchors_gets_no_file_of_them(tmp_path):
    assert not write_anchors(cfg.parse_cfg(NET + normalized(8, 3)), tmp_path / "a.txt")
    assert not (tmp_path / "a.txt").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        "WEIGHTS",
        "WEIGHTS --cfg CFG",
        "CFG WEIGHTS",
        "CFG WEIGHTS OUT.h5 --cfg CFG",
        "WEIGHTS CFG OUT.h5",
        "WEIGHTS --cfg CFG -o OUT.pb",
        "WEIGHTS --cfg CFG -o OUT.keras -w",
        "WEIGHTS --cfg CFG -o OUT.tflite --any-size",
        "WEIGHTS --cfg no-such-network -o OUT.keras",
        "missing.weights --cfg CFG -o OUT.keras",
    ],
)
def test_wrong_usage_exits_with_code_2(files, capsys, arguments):
    source, weights, folder = files
    words = {"CFG": source, "WEIGHTS": weights}
    line = [words.get(word, word.replace("OUT", f"{folder}/out")) for word in arguments.split()]
    assert cli.main(["convert", *line]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    said(printed.err)
    assert entries(folder) == ["net.cfg", "net.weights"]


def test_mismatching_weights_exit_with_code_1(files, capsys):
    source, weights, folder = files
    content = Path(weights).read_bytes()
    Path(weights).write_bytes(content[:-8])
    assert cli.main(["convert", weights, "--cfg", source, "-o", f"{folder}/m.keras"]) == 1
    said(capsys.readouterr().err)
    assert not (folder / "m.keras").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMATS)
def test_successful_convert_shows_no_output_of_tensorflow(files, kind):
    source, weights, folder = files
    command = [sys.executable, "-m", "yolotf.cli", "convert", weights, "--cfg", source]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TF_CPP")}
    done = subprocess.run(
        [*command, "-o", str(output_in(folder, kind))],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    lines = [line for line in done.stderr.splitlines() if not line.startswith("note: ")]
    assert lines == ["building ...", "loading ...", "writing ..."]


def test_captured_stderr_is_shown_on_failure(capfd):
    from yolotf.files.stderr import captured_stderr

    with captured_stderr():
        os.write(2, b"noise\n")
    assert "noise" not in capfd.readouterr().err

    def fail():
        os.write(2, b"a clue\n")
        raise ValueError("failed")

    with pytest.raises(ValueError, match="failed"), captured_stderr():
        fail()
    assert "a clue\n" in capfd.readouterr().err


WRITE_ELSEWHERE = """
import sys
from yolotf.models.keras_module import keras
from yolotf.formats.convert import convert
cfg, weights, folder, expected, *endings = sys.argv[1:]
assert keras().__name__ == expected
for ending in endings:
    convert(weights, cfg, f"{folder}/other{ending}")

import numpy, yolotf
own = yolotf.build_model(yolotf.parse_cfg(cfg))
yolotf.load_darknet_weights(own, weights)
fresh = yolotf.build_model(yolotf.parse_cfg(cfg))
fresh.load_weights(f"{folder}/other.weights.h5")
load = keras().models.load_model
for model in (fresh, load(f"{folder}/other.keras"), load(f"{folder}/other.h5", compile=False)):
    for one, other in zip(model.get_weights(), own.get_weights(), strict=True):
        numpy.testing.assert_array_equal(one, other)
"""


@pytest.mark.slow
def test_the_other_keras_writes_the_same(files, expected):
    other = {"keras": "tf_keras", "tf_keras": "keras"}[keras().__name__]
    pytest.importorskip(other)
    source, weights, folder = files
    # ONNX knows no Keras.
    arguments = [source, weights, str(folder), other, "/", *FILES[:-1]]
    switch = {"TF_USE_LEGACY_KERAS": str(int(other == "tf_keras"))}
    run = [sys.executable, "-c", WRITE_ELSEWHERE, *arguments]
    subprocess.run(run, env={**os.environ, **switch}, check=True)

    pictures = pictures_for(DETECTOR, batch=1)
    served = tf.saved_model.load(folder / "other").signatures["serving_default"]
    lite = tf.lite.Interpreter(f"{folder}/other.tflite").get_signature_runner("serving_default")
    for outputs in (served(images=tf.constant(pictures)), lite(images=pictures)):
        heads = [np.asarray(outputs[f"output_{i}"]) for i in range(2)]
        assert_close(heads, expected[1](pictures))
