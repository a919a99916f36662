"""Classifiers: Darknet's preparation in loops, answers of the Keras model, trees by hand."""

import copy
import io
import json
import math
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import yolotf
from support.cfgs import conv, net, normalized
from support.helpers import cfg_params, network_facts, write_weights
from support.messages import refused, said, warned
from yolotf.cli.commands import main
from yolotf.darknet import stock
from yolotf.darknet.cfg import parse_cfg
from yolotf.darknet.class_tree import Tree
from yolotf.errors import UnsupportedSectionError, WeightsMismatch, YolotfError
from yolotf.inference import build_function
from yolotf.inference.classifier import Classifier, prepare
from yolotf.inference.classifier_function import prepare as prepare_in_graph
from yolotf.inference.classifier_head import head_of

SMALL = net(24) + normalized(8, 3, stride=2) + conv(5) + "[avgpool]\n"
SOFTMAX = "[softmax]\ngroups=1\n[cost]\ntype=sse\n"
NAMES = ("ant", "bee", "cat", "dog", "eel")


def slow_prepare(pixels, height, width):
    """resize_min and crop_image, pixel by pixel in float32."""
    image = pixels.astype(np.float32) / np.float32(255)
    rows, columns = image.shape[:2]
    if columns < rows:
        new_rows, new_columns = rows * width // columns, width
    else:
        new_rows, new_columns = width, columns * width // rows
    out = np.zeros((height, width, image.shape[2]), np.float32)
    for row in range(height):
        for column in range(width):
            y = row + int((new_rows - height) / 2)
            x = column + int((new_columns - width) / 2)
            y, x = min(max(y, 0), new_rows - 1), min(max(x, 0), new_columns - 1)
            out[row, column] = slow_pixel(image, y, x, new_rows, new_columns)
    return out


def slow_pixel(image, y, x, new_rows, new_columns):
    rows, columns = image.shape[:2]

    def place(value, new, old):
        if value == new - 1 or old == 1 or new == old:
            return (old - 1 if value == new - 1 else value if new == old else 0), 0.0
        at = value * (old - 1) / (new - 1)
        return int(at), at - int(at)

    (top, down), (left, right) = place(y, new_rows, rows), place(x, new_columns, columns)
    below, beside = min(top + 1, rows - 1), min(left + 1, columns - 1)
    upper = (1 - right) * image[top, left] + right * image[top, beside]
    lower = (1 - right) * image[below, left] + right * image[below, beside]
    return (1 - down) * upper + down * lower


@pytest.mark.parametrize("size", [(24, 24), (16, 24), (30, 24)])
@pytest.mark.parametrize(
    "picture", [(40, 70), (70, 40), (24, 24), (24, 90), (9, 7), (31, 24), (1, 30), (200, 3)]
)
def test_pictures_are_prepared_as_darknet_does(picture, size):
    pixels = np.random.default_rng(1).integers(0, 256, (*picture, 3)).astype(np.uint8)
    wanted = slow_prepare(pixels, *size)
    np.testing.assert_allclose(prepare(pixels, *size), wanted, atol=2e-4)
    np.testing.assert_allclose(prepare(pixels / np.float32(255), *size), wanted, atol=2e-4)
    np.testing.assert_allclose(prepare_in_graph(pixels[None], *size)[0], wanted, atol=2e-3)


@pytest.fixture
def small(tmp_path):
    def make(text=SMALL + SOFTMAX, seed=1):
        path = tmp_path / f"small-{seed}.weights"
        write_weights(path, parse_cfg(text), seed=seed)
        return path

    return make


PIXELS = np.random.default_rng(3).integers(0, 256, (24, 24, 3)).astype(np.uint8)


def keras_answer(text, weights, pixels=PIXELS):
    model = yolotf.build_model(parse_cfg(text))
    yolotf.load_darknet_weights(model, weights)
    return np.ravel(model(pixels[None].astype(np.float32) / 255))


def test_the_likeliest_classes_come_first(small):
    text = SMALL + SOFTMAX
    wanted = keras_answer(text, small())
    answer = Classifier(parse_cfg(text), small(), class_names=NAMES)(PIXELS, top=3)
    order = np.argsort(-wanted)[:3]
    assert answer.classes.tolist() == order.tolist()
    assert (answer.classes.dtype, answer.scores.dtype) == (np.int64, np.float32)
    np.testing.assert_allclose(answer.scores, wanted[order], rtol=1e-4)
    assert answer.labels == tuple(NAMES[number] for number in order)
    assert len(answer) == 3
    kept = json.loads(json.dumps(answer.to_dict()))["top"]
    assert [row["class"] for row in kept] == order.tolist()
    assert kept[0]["name"] == answer.labels[0]
    assert str(answer).splitlines()[0].endswith(answer.labels[0])


def test_without_softmax_the_last_section_answers(small):
    answer = Classifier(parse_cfg(SMALL), small(SMALL))(PIXELS, top=99)
    wanted = keras_answer(SMALL, small(SMALL))
    np.testing.assert_allclose(answer.scores, np.sort(wanted)[::-1], rtol=1e-4)
    assert answer.labels[0] == f"class {answer.classes[0]}"


def test_lists_and_every_kind_of_image_are_classified(small, tmp_path):
    classify = Classifier(parse_cfg(SMALL + SOFTMAX), small(), batch_size=2)
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    other = np.zeros((50, 90, 3), np.uint8)
    pictures = [PIXELS, tmp_path / "a.png", other, (tmp_path / "a.png").read_bytes(), other[:9]]
    answers = classify(pictures)
    alone = [classify(picture) for picture in pictures]
    for answer, other in zip(answers, alone, strict=True):
        np.testing.assert_allclose(answer.scores, other.scores, rtol=1e-5)
    assert answers[0].classes.tolist() == answers[1].classes.tolist() == answers[3].classes.tolist()
    assert classify([]) == []
    with refused(TypeError):
        classify(None)
    with refused(ValueError):
        classify(PIXELS, top=0)


def test_an_array_of_images_is_a_batch(small):
    classify = Classifier(parse_cfg(SMALL + SOFTMAX), small(), batch_size=2)
    images = np.random.default_rng(4).integers(0, 256, (3, 40, 50, 3)).astype(np.uint8)
    for answer, image in zip(classify(images, top=2), images, strict=True):
        assert len(answer) == 2
        np.testing.assert_allclose(answer.scores, classify(image, top=2).scores, rtol=1e-5)
    assert classify(images[:0]) == []


def test_arrays_may_be_bgr(small):
    text = SMALL + SOFTMAX
    plain = Classifier(parse_cfg(text), small())(PIXELS)
    turned = Classifier(parse_cfg(text), small(), bgr=True)(PIXELS[..., ::-1])
    np.testing.assert_array_equal(plain.scores, turned.scores)


def test_reload_changes_the_answer_or_nothing(small, tmp_path):
    text = SMALL + SOFTMAX
    classify = Classifier(parse_cfg(text), small())
    before = classify(PIXELS)
    (tmp_path / "short.weights").write_bytes(small().read_bytes()[:-40])
    with pytest.raises(WeightsMismatch):
        classify.reload(tmp_path / "short.weights")
    np.testing.assert_array_equal(classify(PIXELS).scores, before.scores)
    classify.reload(small(seed=2))
    after = classify(PIXELS)
    np.testing.assert_allclose(
        np.sort(after.scores), np.sort(keras_answer(text, small(seed=2))), rtol=1e-4
    )
    assert not np.allclose(after.scores, before.scores)
    assert (classify.weights.path, classify.reloads) == (str(small(seed=2)), 1)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda original: pickle.loads(pickle.dumps(original))]
)
def test_copies_read_the_file_that_serves_now(copied, small):
    text = SMALL + SOFTMAX
    classify = Classifier(parse_cfg(text), small(), class_names=NAMES)
    classify.reload(small(seed=2))
    other = copied(classify)
    first, again = classify(PIXELS), other(PIXELS)
    np.testing.assert_array_equal(first.scores, again.scores)
    assert first.labels == again.labels
    with refused(TypeError):
        copied(Classifier(parse_cfg(text), small().read_bytes()))


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda original: pickle.loads(pickle.dumps(original))]
)
def test_copies_read_a_relative_path_from_where_it_was_opened(copied, small, tmp_path, monkeypatch):
    """A server may change its working folder, in which another file may have the same name."""
    for folder, seed in (("here", 3), ("elsewhere", 4)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.weights").write_bytes(small(seed=seed).read_bytes())
    monkeypatch.chdir(tmp_path / "here")
    original = Classifier(parse_cfg(SMALL + SOFTMAX), "a.weights")
    original.reload("a.weights")
    monkeypatch.chdir(tmp_path / "elsewhere")
    image = PIXELS
    assert str(copied(original)(image)) == str(original(image))
    assert copied(original).weights.path == str(tmp_path / "here/a.weights")


def test_unpickling_without_the_weights_file_is_an_os_error(small, tmp_path):
    path = tmp_path / "gone.weights"
    path.write_bytes(small().read_bytes())
    pickled = pickle.dumps(Classifier(parse_cfg(SMALL + SOFTMAX), path))
    path.unlink()
    with refused(FileNotFoundError) as caught:
        pickle.loads(pickled)
    assert caught.value.filename == str(path)


def test_export_gives_the_same_probabilities(small, tmp_path):
    classify = Classifier(parse_cfg(SMALL + SOFTMAX), small(), class_names=NAMES)
    classify.export(tmp_path / "saved")
    served = tf.saved_model.load(tmp_path / "saved")
    pixels = np.random.default_rng(5).integers(0, 256, (2, 60, 40, 3)).astype(np.uint8)
    for name in ("probabilities", "serving_default"):
        probabilities = served.signatures[name](images=tf.constant(pixels))["probabilities"]
        np.testing.assert_allclose(probabilities, classify.probabilities(list(pixels)), rtol=1e-3)
    assert (tmp_path / "saved/assets.extra/classes.names").read_text().split() == list(NAMES)


DARKNET = json.loads((Path(__file__).parents[1] / "data/darknet_classify.json").read_text())
DARKNET_BODY = (
    SMALL.split("[convolutional]\nfilters=5")[0]
    + "[maxpool]\nsize=2\nstride=2\n"
    + "[convolutional]\nfilters=6\nsize=1\nactivation=linear\n[avgpool]\n"
)
DARKNET_ENDS = {
    "plain": "[softmax]\ngroups=1\n",
    "groups": "[softmax]\ngroups=2\ntemperature=2\n",
    "tree": "[softmax]\ntree=six.tree\ntemperature=2\n",
    "none": "",
}
SIX = "animal -1\nplant -1\ncat 0\ndog 0\ntulip 1\nkitten 2\n"


def darknet_picture(key):
    rows, columns = map(int, key.split()[1].split("x"))
    y, x, channel = np.ogrid[:rows, :columns, :3]
    return ((3 * x + 5 * y + x * y // 16 + 60 * channel) % 256).astype(np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize("kind", DARKNET_ENDS)
def test_answers_are_those_darknet_printed(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "six.tree").write_text(SIX)
    path = tmp_path / "six.weights"
    write_weights(path, parse_cfg(DARKNET_BODY), seed=1)
    network = parse_cfg(DARKNET_BODY + DARKNET_ENDS[kind])
    classify = Classifier(network, path, batch_size=3)
    function = build_function(network, path)
    classify.export(tmp_path / "saved")
    served = tf.saved_model.load(tmp_path / "saved").signatures["probabilities"]
    keys = [key for key in DARKNET if key.split()[0] == kind]
    assert len(keys) == 7
    probabilities = classify.probabilities([darknet_picture(key) for key in keys])
    for key, ours in zip(keys, probabilities, strict=True):
        pixels = darknet_picture(key)[None]
        # Sums that no softmax brings to 0..1 are rounded by their size, in each processor's order.
        rtol = 1e-6 if kind == "none" else 0
        np.testing.assert_allclose(ours, DARKNET[key], atol=1e-6, rtol=rtol)
        for images in (pixels, pixels / np.float32(255)):
            np.testing.assert_allclose(function(images)[0], ours, atol=2e-5)
        probabilities = served(images=tf.constant(pixels))["probabilities"]
        np.testing.assert_allclose(probabilities[0], ours, atol=2e-5)


def test_build_function_answers_probabilities(small):
    text = SMALL + SOFTMAX
    function = build_function(parse_cfg(text), small())
    wanted = keras_answer(text, small())
    np.testing.assert_allclose(function(PIXELS[None])[0], wanted, rtol=1e-4)
    np.testing.assert_allclose(function(PIXELS[None] / 255)[0], wanted, rtol=1e-4)
    assert function(np.zeros((0, 9, 9, 3), np.uint8)).shape == (0, 5)
    function.load(small(seed=2))
    np.testing.assert_allclose(
        function(PIXELS[None])[0], keras_answer(text, small(seed=2)), rtol=1e-4
    )
    with refused(ValueError):
        build_function(parse_cfg(text), small(), any_size=True)
    assert function.image_spec(tf.float32).dtype == tf.float32
    with warned(DeprecationWarning):
        assert function.images() == function.image_spec()
    short = small().with_name("short.weights")
    short.write_bytes(small().read_bytes()[:-40])
    with pytest.raises(WeightsMismatch) as error:
        build_function(parse_cfg(text), short)
    assert error.value.diagnosis.to_dict()["causes"]


@pytest.mark.parametrize("rows", [1, 3])
def test_the_softmax_of_a_tree_is_one_a_group_channels_first(rows, tmp_path):
    """softmax_layer.c:54, group by group, in Keras, and kept in a .keras file."""
    (tmp_path / "a.tree").write_text(
        "".join(f"c{number} {p}\n" for number, p in enumerate(PARENTS))
    )
    text = f"[net]\nwidth=1\nheight={rows}\nchannels={12 // rows}\n[softmax]\ntemperature=0.5\n"
    network = parse_cfg(text + f"tree={tmp_path / 'a.tree'}\n")
    values = np.random.default_rng(1).normal(size=(2, rows, 1, 12 // rows)).astype(np.float32)
    flat, wanted, start = values.transpose(0, 3, 1, 2).reshape(2, -1) / 0.5, [], 0
    for size in (2, 1, 4, 3, 2):
        powers = np.exp(flat[:, start : start + size])
        wanted.append(powers / powers.sum(1, keepdims=True))
        start += size
    wanted = np.concatenate(wanted, 1).reshape(2, 12 // rows, rows, 1).transpose(0, 2, 3, 1)
    model = yolotf.build_model(network)
    np.testing.assert_allclose(model(values), wanted, rtol=1e-5)
    model.save(tmp_path / "m.keras")
    again = tf.keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(again(values), wanted, rtol=1e-5)


PARENTS = (-1, -1, 0, 1, 1, 1, 1, 2, 2, 2, 5, 5)


def test_branches_reach_the_root():
    """hierarchy_predictions, tree.c: parents come first."""
    tree = Tree(tuple(map(str, PARENTS)), PARENTS, (2, 1, 4, 3, 2))
    values = np.random.default_rng(1).uniform(0.1, 1, 12)
    wanted = values.copy()
    for number, parent in enumerate(PARENTS):
        if parent >= 0:
            wanted[number] *= wanted[parent]
    for places in tree.branches():
        values = values * np.append(values, 1)[places[:-1]]
    np.testing.assert_allclose(values, wanted)
    assert len(tree.branches()) == 2
    assert Tree(("a",), (-1,), (1,)).branches() == []


TREE = "animal -1\nplant -1\ncat 0\ndog 0\ntulip 1\n"


def test_trees_multiply_along_the_branch(small, tmp_path):
    (tmp_path / "a.tree").write_text(TREE)
    text = SMALL + f"[softmax]\ntree={tmp_path / 'a.tree'}\n"
    raw = keras_answer(SMALL, small(SMALL))
    answer = Classifier(parse_cfg(text), small(SMALL), class_names=NAMES)(PIXELS)
    first, second = np.exp(raw[:2]), np.exp(raw[2:4])
    roots, kinds = first / first.sum(), second / second.sum()
    wanted = [*roots, *(kinds * roots[0]), roots[1]]
    scores = dict(zip(answer.classes.tolist(), answer.scores.tolist(), strict=True))
    np.testing.assert_allclose([scores[number] for number in range(5)], wanted, rtol=1e-4)
    assert math.isclose(scores[2] + scores[3] + scores[4], 1, rel_tol=1e-5)


def test_a_missing_tree_is_an_os_error(tmp_path):
    with refused(FileNotFoundError):
        Classifier(parse_cfg(SMALL + "[softmax]\ntree=a.tree\n"), tmp_path / "none.weights")


@pytest.mark.parametrize(
    "content",
    [
        "animal\n",
        "animal -1\ncat 1\n",
        "animal -1\n",
    ],
)
def test_invalid_trees_are_refused(content, tmp_path):
    (tmp_path / "a.tree").write_text(content)
    text = SMALL + f"[softmax]\ntree={tmp_path / 'a.tree'}\n"
    with refused(YolotfError):
        Classifier(parse_cfg(text), tmp_path / "none.weights")


def test_detectors_and_classifiers_name_each_other(small, tmp_path):
    with refused(UnsupportedSectionError):
        Classifier("yolov4-tiny", tmp_path / "none.weights")
    with refused(UnsupportedSectionError):
        yolotf.Detector(parse_cfg(SMALL + SOFTMAX), small())


def test_class_names_must_match_the_class_count(small):
    with refused(YolotfError):
        Classifier(parse_cfg(SMALL + SOFTMAX), small(), class_names=NAMES[:2])
    assert "24x24, 5 classes" in repr(
        Classifier(parse_cfg(SMALL + SOFTMAX), small(), class_names=NAMES)
    )


def test_a_refused_file_is_explained(small, tmp_path):
    (tmp_path / "short.weights").write_bytes(small().read_bytes()[:-40])
    with pytest.raises(WeightsMismatch) as error:
        Classifier(parse_cfg(SMALL + SOFTMAX), tmp_path / "short.weights")
    assert error.value.diagnosis.to_dict()["causes"]


@pytest.mark.slow
def test_classifying_imports_no_tensorflow(small, tmp_path):
    (tmp_path / "net.cfg").write_text(SMALL + SOFTMAX)
    code = (
        "import sys, numpy as np, yolotf; "
        f"yolotf.Classifier({str(tmp_path / 'net.cfg')!r}, {str(small())!r})"
        "(np.zeros((9, 9, 3), np.uint8)); "
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def classifiers():
    from support.helpers import SHARED

    names = ("darknet19", "darknet53", "resnet50", "cifar", "extraction", "densenet201")
    return [SHARED / f"cfg/{name}.cfg" for name in names]


def stock_classifiers():
    from support.helpers import SHARED

    paths = [SHARED / f"cfg/{name}.cfg" for name in stock.CLASSIFIERS]
    return [path for path in paths if path.exists()]


@pytest.mark.parametrize("path", cfg_params(stock_classifiers))
def test_stock_classifiers_are_those_of_darknets_cfgs(path):
    theirs, ours = parse_cfg(path), yolotf.network(path.stem)
    assert network_facts(ours) == network_facts(theirs)
    assert ours.input_shape == theirs.input_shape


def test_stock_classifiers_take_other_classes_and_sizes():
    network = yolotf.network("darknet53", classes=7, size=448)
    assert head_of(network).classes == 7
    assert network.input_shape[:2] == yolotf.network("darknet53_448").input_shape[:2]
    assert len(stock.CLASSIFIERS) == 16


@pytest.mark.parametrize("path", cfg_params(classifiers))
def test_stock_classifiers_have_their_classes(path):
    _, tree, classes = head_of(parse_cfg(path))
    assert tree is None
    assert classes == (10 if path.stem == "cifar" else 1000)


def test_classify_command_prints_text_and_json(small, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.cfg").write_text(SMALL + SOFTMAX)
    (tmp_path / "net.names").write_text("\n".join(NAMES))
    (tmp_path / "in").mkdir()
    Image.fromarray(PIXELS).save("in/a.png")
    (tmp_path / "bad.png").write_text("no picture")
    arguments = ["--cfg", "net.cfg", "--weights", str(small()), "--names", "net.names"]
    assert main(["classify", "in", *arguments, "--top", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "in/a.png"
    assert lines[1].split()[-1] in NAMES
    assert len(lines) == 4
    assert main(["classify", "in/a.png", "bad.png", *arguments, "--json"]) == 2
    printed = capsys.readouterr()
    first, second = map(json.loads, printed.out.splitlines())
    assert (first["path"], len(first["top"])) == ("in/a.png", 5)
    assert list(second) == ["path", "error"]
    assert printed.err.splitlines()[-1] == f"yolotf: {second['path']}: {second['error']}"
    said(printed.err)
    # Patterns, folders in folders, names on standard input, and batches give the same answers.
    (tmp_path / "in/deep").mkdir()
    Image.fromarray(PIXELS[::-1]).save("in/deep/b.png")
    assert main(["classify", "in", "--recursive", *arguments, "--batch-size", "3", "--json"]) == 0
    many = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["path"] for row in many] == ["in/a.png", "in/deep/b.png"]
    np.testing.assert_allclose(
        [row["score"] for row in many[0]["top"]], [row["score"] for row in first["top"]], atol=1e-6
    )
    assert main(["classify", "in/*/*.png", *arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == "in/deep/b.png"
    monkeypatch.setattr(sys, "stdin", io.StringIO("in/a.png\nbad.png\n"))
    assert main(["classify", "-", *arguments, "--batch-size", "2", "--json"]) == 2
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()][1] == second
    assert main(["classify", "in", "--cfg", "net.cfg", "--weights", "none.weights"]) == 2
    said(capsys.readouterr().err)
