"""`save_darknet_weights`: models written as Darknet files."""

import contextlib
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import test_opencv_heads

import yolotf
from support import foreign_models, helpers, messages, numpy_loader, weights_files
from support.cfgs import conv, net, normalized, section, shortcut
from support.foreign_models import CFG, STYLES, L, Recorder
from support.messages import refused
from yolotf.models.keras_module import keras
from yolotf.weights import layout


def real_pairs():
    return sorted((helpers.SHARED / "corpus/pairs").glob("*.weights"))


@pytest.mark.parametrize("path", helpers.shared_params(real_pairs, lambda path: path.stem))
def test_real_files_are_saved_byte_for_byte(path, tmp_path):
    model = yolotf.build_model(yolotf.parse_cfg(path.with_suffix(".cfg")))
    yolotf.load_darknet_weights(model, path)
    size = yolotf.save_darknet_weights(model, tmp_path / "again.weights")
    assert size == path.stat().st_size
    assert (tmp_path / "again.weights").read_bytes() == path.read_bytes()


def test_official_tiny_is_saved_byte_for_byte(official_tiny, tmp_path):
    model = yolotf.build_model(yolotf.parse_cfg(official_tiny.cfg, size=96))
    yolotf.load_darknet_weights(model, official_tiny.weights)
    yolotf.save_darknet_weights(model, tmp_path / "again.weights")
    assert (tmp_path / "again.weights").read_bytes() == official_tiny.weights.read_bytes()


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return foreign_models.weights_file(tmp_path_factory.mktemp("weights") / "small.weights")


@pytest.fixture
def model(weights):
    built = yolotf.build_model(yolotf.parse_cfg(CFG))
    yolotf.load_darknet_weights(built, weights)
    return built


@pytest.mark.slow
@pytest.mark.parametrize("with_cfg", [False, True])
@pytest.mark.parametrize("style", STYLES)
def test_foreign_models_are_saved_byte_for_byte(style, with_cfg, weights, tmp_path):
    foreign = STYLES[style](Recorder())
    yolotf.load_darknet_weights(foreign, weights, cfg=CFG if with_cfg else None)
    with messages.warned(UserWarning):
        yolotf.save_darknet_weights(foreign, tmp_path / "again.weights")
    assert (tmp_path / "again.weights").read_bytes() == weights.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
def test_a_model_that_was_never_loaded_is_saved_in_its_own_order(style, tmp_path):
    record = Recorder()
    foreign = STYLES[style](record)
    _randomize(foreign)
    path = tmp_path / "new.weights"
    with messages.warned(UserWarning):
        yolotf.save_darknet_weights(foreign, path)
    foreign_models.assert_holds(record.pairs, path)
    assert struct.unpack("<iiiQ", path.read_bytes()[:20]) == (0, 2, 5, 0)
    with messages.warned(UserWarning):
        yolotf.save_darknet_weights(foreign, tmp_path / "with.weights", network=CFG)
    assert (tmp_path / "with.weights").read_bytes() == path.read_bytes()


def _randomize(model):
    random = np.random.default_rng(7)
    for variable in model.weights:
        values = random.uniform(0.1, 0.4, tuple(variable.shape))
        variable.assign(values.astype(np.float32))


OTHER_SECTIONS = (
    net(8, channels=4)
    + normalized(8, 3, "relu", groups=4)
    + conv(8, 3, groups=2)
    + "[batchnorm]\n"
    + section("local", filters=3, size=3, stride=1, pad=1, activation="linear")
    + shortcut(-2, weights_type="per_channel")
    + section("connected", output=5, batch_normalize=1, activation="leaky")
    + section("connected", output=4, activation="linear")
)


@pytest.mark.parametrize(
    "header",
    [
        weights_files.header(2**33 + 1),
        weights_files.header(7, version=(0, 1, 0)),
        weights_files.header(7, version=(0, 2, 0), seen_bytes=4),
        weights_files.header(7, version=(0, 1, 0), seen_bytes=8),
        weights_files.header(7, version=(1001, 2, 0)),
    ],
    ids=["wide", "narrow", "narrow for its version", "wide for its version", "transposed"],
)
def test_every_section_and_header_is_saved_byte_for_byte(header, tmp_path):
    network = yolotf.parse_cfg(OTHER_SECTIONS)
    content = header + numpy_loader.random_file(OTHER_SECTIONS)[20:]
    (tmp_path / "one.weights").write_bytes(content)
    model = yolotf.build_model(network)
    yolotf.load_darknet_weights(model, tmp_path / "one.weights")
    yolotf.save_darknet_weights(model, tmp_path / "two.weights")
    assert (tmp_path / "two.weights").read_bytes() == content


def test_seen_and_version_are_written_as_given(model, weights, tmp_path):
    path = tmp_path / "out.weights"
    yolotf.save_darknet_weights(model, path, seen=32_013_312, version=(0, 1, 9))
    assert struct.unpack("<iiiI", path.read_bytes()[:16]) == (0, 1, 9, 32_013_312)
    assert path.read_bytes()[16:] == weights.read_bytes()[20:]
    yolotf.save_darknet_weights(model, path, seen=2**40)
    assert struct.unpack("<iiiQ", path.read_bytes()[:20]) == (0, 2, 5, 2**40)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"seen": -1},
        {"seen": 2**64},
        {"seen": 2**32, "version": (0, 1, 0)},
        {"version": (0, 2)},
        {"version": (0, 2, 2**31)},
        {"upto": 0},
        {"upto": 99},
    ],
)
def test_impossible_header_numbers_are_refused(options, model, tmp_path):
    with refused(ValueError):
        yolotf.save_darknet_weights(model, tmp_path / "out.weights", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("upto", [1, 4, 12, 21])
def test_upto_writes_the_first_sections(upto, model, weights, tmp_path):
    path = tmp_path / f"small.conv.{upto}"
    yolotf.save_darknet_weights(model, path, upto=upto)
    network = yolotf.parse_cfg(CFG)
    end = max(segment.end for segment in layout.segments(network) if segment.layer < upto)
    assert path.read_bytes() == weights.read_bytes()[: 20 + end]
    again = yolotf.build_model(network)
    yolotf.load_darknet_weights(again, path, strict=False)
    for layer, reloaded_layer in zip(model.layers, again.layers, strict=True):
        number = [int(part) for part in layer.name.split("_") if part.isdigit()]
        if number and number[0] < upto:
            for mine, theirs in zip(layer.weights, reloaded_layer.weights, strict=True):
                np.testing.assert_array_equal(mine.numpy(), theirs.numpy())


def test_upto_needs_sections(weights, tmp_path):
    foreign = STYLES["flat"](Recorder())
    yolotf.load_darknet_weights(foreign, weights)
    with refused(ValueError):
        yolotf.save_darknet_weights(foreign, tmp_path / "cut.weights", upto=3)


def test_a_partly_loaded_model_does_not_take_over_the_picture_count(weights, tmp_path):
    content = weights.read_bytes()
    (tmp_path / "seen.weights").write_bytes(weights_files.header(99) + content[20:])
    other = yolotf.build_model(yolotf.parse_cfg(CFG).with_classes(3))
    yolotf.load_darknet_weights(other, tmp_path / "seen.weights", cfg=CFG)
    yolotf.save_darknet_weights(other, tmp_path / "out.weights")
    assert struct.unpack("<iiiQ", (tmp_path / "out.weights").read_bytes()[:20]) == (0, 2, 5, 0)


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
def test_opencv_reads_a_changed_model_with_equal_outputs(style, weights, tmp_path):
    """The model was changed after its load, so the old file cannot be what is read."""
    network = yolotf.parse_cfg(CFG)
    foreign = STYLES[style](Recorder())
    yolotf.load_darknet_weights(foreign, weights, bn_epsilon="darknet")
    random = np.random.default_rng(3)
    for variable in foreign.weights:
        values = tf.convert_to_tensor(variable).numpy()
        change = random.uniform(0.9, 1.1, values.shape)
        variable.assign((values * change).astype(np.float32))
    path = tmp_path / "changed.weights"
    yolotf.save_darknet_weights(foreign, path)
    pictures = random.random((2, *network.input_shape), np.float32)
    theirs = test_opencv_heads.opencv_heads(network, path.read_bytes(), pictures)
    ours = list(foreign(pictures, training=False))
    ours.sort(key=lambda head: head.shape[1])
    test_opencv_heads.assert_same_heads(network, ours, theirs)


def test_a_link_is_followed_and_permissions_are_kept(model, weights, tmp_path):
    real, link = tmp_path / "real.weights", tmp_path / "link.weights"
    real.write_bytes(b"old")
    real.chmod(0o640)
    link.symlink_to(real.name)
    yolotf.save_darknet_weights(model, link)
    assert link.is_symlink()
    assert real.read_bytes() == weights.read_bytes()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    yolotf.save_darknet_weights(model, tmp_path / "new.weights")
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE((tmp_path / "new.weights").stat().st_mode) == 0o666 & ~mask


def test_longest_file_name_works(model, tmp_path):
    path = tmp_path / ("n" * 255)
    yolotf.save_darknet_weights(model, path)
    assert [path.name for path in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("place", ["missing/out.weights", "folder"])
def test_unwritable_path_is_refused(place, model, tmp_path):
    (tmp_path / "folder").mkdir()
    with refused(OSError) as caught:
        yolotf.save_darknet_weights(model, tmp_path / place)
    assert caught.value.filename == str(tmp_path / place)
    assert [path_left.name for path_left in tmp_path.iterdir()] == ["folder"]


_CHILD = """
    import os, resource, signal, sys
    import yolotf
    from yolotf.files import output_target
    from yolotf.loading import save

    cfg, weights, out, how = sys.argv[1:]
    model = yolotf.build_model(yolotf.parse_cfg(cfg))
    yolotf.load_darknet_weights(model, weights)
    if how != "kill":
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
    if how != "reserve":
        output_target.reserve = lambda descriptor, size: None
    if how == "kill":
        stored, calls = save._stored, []

        def killing(assignment, merged):
            calls.append(assignment)
            if len(calls) == 30:
                os.kill(os.getpid(), signal.SIGKILL)
            return stored(assignment, merged)

        save._stored = killing
    try:
        yolotf.save_darknet_weights(model, out)
    except OSError as error:
        print(error.errno, error.filename)
        sys.exit(3)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["reserve", "write", "kill"])
def test_a_full_disk_or_a_kill_leaves_the_old_file_whole(how, weights, tmp_path):
    """`reserve` learns of the full disk before it writes, `write` while it writes."""
    (tmp_path / "small.cfg").write_text(CFG, encoding="utf-8")
    out = tmp_path / "out.weights"
    out.write_bytes(b"the old file")
    child = subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent(_CHILD),
            str(tmp_path / "small.cfg"),
            str(weights),
            str(out),
            how,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert out.read_bytes() == b"the old file"
    names = sorted(path_left.name for path_left in tmp_path.iterdir())
    if how == "kill":
        assert child.returncode == -signal.SIGKILL, child.stderr
    else:
        assert child.returncode == 3, child.stderr
        assert child.stdout.split() == ["27", str(out)]  # EFBIG
    assert names == ["out.weights", "small.cfg"]


def test_folded_networks_are_refused(model, weights, tmp_path):
    from yolotf.inference import build_function

    network = yolotf.parse_cfg(CFG)
    with refused(yolotf.ModelMismatchError):
        yolotf.save_darknet_weights(build_function(network, weights), tmp_path / "out.weights")
    assert not list(tmp_path.iterdir())


def test_a_model_with_biases_for_batch_norms_is_refused(tmp_path):
    inputs = foreign_models.picture()

    class Folded(Recorder):
        def make(self, filters, size, stride=1, norm=True):
            return super().make(filters, size, stride, norm=False)

    model = keras().Model(inputs, Folded().conv(inputs, 8, 3))
    text = net(foreign_models.SIZE) + normalized(8, 3)
    with refused(yolotf.ModelMismatchError):
        yolotf.save_darknet_weights(model, tmp_path / "out.weights", network=text)


@pytest.mark.slow
def test_quantized_models_are_refused(tmp_path):
    if keras().__version__ < "3":
        pytest.skip("tf_keras has no quantization of its own")
    inputs = L.Input((4,))
    dense = L.Dense(3)
    model = keras().Model(inputs, dense(inputs))
    dense.quantize("int8")
    with refused(yolotf.ModelMismatchError):
        yolotf.save_darknet_weights(model, tmp_path / "out.weights")


def test_sections_that_nothing_reads_cannot_be_saved(weights, tmp_path):
    dead = conv(4)
    first, *rest = CFG.split("[route]\nlayers=-4")
    text = first + dead + "[route]\nlayers=-5" + rest[0].replace("layers=-1,-8", "layers=-1,-9")
    network = yolotf.parse_cfg(text)
    model = yolotf.build_model(network)
    (tmp_path / "dead.weights").write_bytes(numpy_loader.random_file(text))
    yolotf.load_darknet_weights(model, tmp_path / "dead.weights")
    with refused(yolotf.ModelMismatchError) as caught:
        yolotf.save_darknet_weights(model, tmp_path / "out.weights")
    assert network.layers[caught.value.section].filters == 4


def test_half_precision_variables_are_widened(weights, tmp_path):
    network = yolotf.parse_cfg(CFG)
    model = yolotf.build_model(network, dtype="float16")
    yolotf.load_darknet_weights(model, weights, cast=True)
    yolotf.save_darknet_weights(model, tmp_path / "half.weights")
    saved = np.frombuffer((tmp_path / "half.weights").read_bytes()[20:], np.float32)
    original = np.frombuffer(weights.read_bytes()[20:], np.float32)
    for segment in layout.segments(network):
        # tf_keras keeps the numbers of batch normalizations in float32.
        if segment.role in ("kernel", "bias"):
            place = slice(segment.offset // 4, segment.end // 4)
            rounded = original[place].astype(np.float16).astype(np.float32)
            np.testing.assert_array_equal(saved[place], rounded)


def test_replicas_are_saved_once(weights, tmp_path):
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        model = yolotf.build_model(yolotf.parse_cfg(CFG))
    yolotf.load_darknet_weights(model, weights)
    yolotf.save_darknet_weights(model, tmp_path / "out.weights")
    assert (tmp_path / "out.weights").read_bytes() == weights.read_bytes()


def _norms(model):
    return [layer for layer in model.layers if hasattr(layer, "moving_variance")]


def test_another_epsilon_is_warned_of_with_layers(model, tmp_path):
    first, *others = _norms(model)
    for layer in others[:6]:
        layer.epsilon = 1e-3
    with messages.warned(UserWarning) as caught:
        yolotf.save_darknet_weights(model, tmp_path / "out.weights")
    (warning,) = caught
    assert warning.filename == __file__
    text = str(warning.message)
    assert others[0].name in text
    assert first.name not in text


def test_fold_epsilon_makes_darknet_compute_the_same(weights, tmp_path):
    network = yolotf.parse_cfg(CFG)
    model = yolotf.build_model(network)
    yolotf.load_darknet_weights(model, weights)
    for number, layer in enumerate(_norms(model)):
        layer.epsilon = (1e-3, 1e-1, 1e-5)[number % 3]
    path = tmp_path / "folded.weights"
    yolotf.save_darknet_weights(model, path, fold_epsilon=True)
    again = yolotf.build_model(network)
    yolotf.load_darknet_weights(again, path)
    pictures = np.random.default_rng(1).random((1, *network.input_shape), np.float32)
    plain = yolotf.build_model(network)
    yolotf.load_darknet_weights(plain, weights)
    heads = [m(pictures, training=False) for m in (model, again, plain)]
    for wanted, output, without in zip(*heads, strict=True):
        np.testing.assert_allclose(output, wanted, rtol=0, atol=2e-6 * np.abs(wanted).max())
        assert np.abs(without - wanted).max() > 1e-4 * np.abs(wanted).max()
    assert [layer.epsilon for layer in _norms(model)][:2] == [1e-3, 1e-1]


def test_fold_epsilon_that_makes_a_variance_negative_is_refused(model, tmp_path):
    layer = _norms(model)[2]
    layer.epsilon = 1e-6
    variance = np.ones(layer.moving_variance.shape, np.float32)
    variance[1] = 2e-6
    layer.moving_variance.assign(variance)
    path = tmp_path / "out.weights"
    with refused(yolotf.ContentError) as caught:
        yolotf.save_darknet_weights(model, path, fold_epsilon=True)
    assert (caught.value.role, caught.value.found) == ("moving_variance", 1)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "role", ["beta", "gamma", "moving_mean", "moving_variance", "kernel", "bias"]
)
def test_non_finite_numbers_are_not_written(role, value, model, tmp_path):
    network = yolotf.parse_cfg(CFG)
    segment = [candidate for candidate in layout.segments(network) if candidate.role == role][-1]
    name = f"conv_{segment.layer}"
    name += "" if role in ("kernel", "bias") else "_bn"
    variable = getattr(model.get_layer(name), role)
    values = variable.numpy()
    values.flat[[0, values.size - 1]] = value
    variable.assign(values)
    path = tmp_path / "out.weights"
    path.write_bytes(b"old")
    with refused(yolotf.ContentError) as caught:
        yolotf.save_darknet_weights(model, path)
    error = caught.value
    assert (error.layer, error.role, error.found) == (segment.layer, role, 2)
    assert (error.offset, error.end) == (20 + segment.offset, 20 + segment.end)

    assert path.read_bytes() == b"old"
    assert [path_left.name for path_left in tmp_path.iterdir()] == ["out.weights"]


def test_a_float64_beyond_float32_is_not_written_as_infinity(tmp_path):
    text = net(4) + section("connected", output=2, activation="linear")
    picture = L.Input((48,))
    dense = L.Dense(2, dtype="float64")
    model = keras().Model(picture, dense(picture))
    dense.bias.assign([1e39, 0])
    with refused(yolotf.ContentError):
        yolotf.save_darknet_weights(model, tmp_path / "out.weights", network=text)


def test_negative_variances_of_dead_channels_only_are_written(model, weights, tmp_path):
    variance = _norms(model)[0].moving_variance
    values = variance.numpy()
    values[0] = np.float32(-7e-44)
    variance.assign(values)
    yolotf.save_darknet_weights(model, tmp_path / "dead.weights")
    values[0] = -1e-3
    variance.assign(values)
    with refused(yolotf.ContentError):
        yolotf.save_darknet_weights(model, tmp_path / "bad.weights")
    assert [path_left.name for path_left in tmp_path.iterdir()] == ["dead.weights"]


_SAVES = """
    import sys
    import yolotf

    model = yolotf.build_model(yolotf.parse_cfg(sys.argv[1]))
    print("ready", flush=True)
    while True:
        yolotf.save_darknet_weights(model, sys.argv[2])
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
def test_a_kill_between_many_saves_leaves_one_whole_file(number, tmp_path):
    """At chosen moments: tests/files/test_atomic.py."""
    (tmp_path / "small.cfg").write_text(CFG, encoding="utf-8")
    out = tmp_path / "out" / "out.weights"
    out.parent.mkdir()
    arguments = [sys.executable, "-c", textwrap.dedent(_SAVES), str(tmp_path / "small.cfg"), out]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout.readline() == b"ready\n"
        while not out.exists():
            time.sleep(0.01)
        time.sleep(0.1)
        child.send_signal(number)
    assert child.returncode == -number
    assert out.stat().st_size == layout.size_bytes(yolotf.parse_cfg(CFG))
    assert [path_left.name for path_left in out.parent.iterdir()] == ["out.weights"]


@pytest.mark.parametrize("kind", ["FIFO", "socket", "character device", "folder", "slash"])
def test_special_files_are_not_replaced(kind, model, tmp_path):
    path = tmp_path / "there"
    with contextlib.ExitStack() as stack:
        if kind == "FIFO":
            os.mkfifo(path)
        elif kind == "socket":
            stack.enter_context(socket.socket(socket.AF_UNIX)).bind(str(path))
        elif kind == "folder":
            path.mkdir()
        elif kind == "character device":
            path.symlink_to("/dev/null")
        before = sorted(tmp_path.iterdir())
        with refused(OSError) as caught:
            yolotf.save_darknet_weights(model, f"{path}/" if kind == "slash" else path)
        assert str(path) in caught.value.filename
        assert sorted(tmp_path.iterdir()) == before
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
