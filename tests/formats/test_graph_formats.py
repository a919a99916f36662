"""ONNX and TensorFlow Lite with their options, run by onnxruntime and TensorFlow's interpreter.

What comes out is compared with a Keras model that `numpy_loader` filled from the same file, and
decoded boxes with the rules of Darknet written out in NumPy.
"""

import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
from PIL import Image
from test_convert import (
    ANCHORS,
    DETECTOR,
    NET,
    REST,
    assert_close,
    conv,
    pictures_for,
    reference,
    write_weights,
)

from support.labelled_pictures import write_set
from support.messages import refused, said
from yolotf import errors, evaluation
from yolotf.cli import commands as cli
from yolotf.darknet import cfg
from yolotf.formats import calibration
from yolotf.formats.convert import convert
from yolotf.images.detections import Detections
from yolotf.images.endings import IMAGES
from yolotf.inference import fit

pytestmark = pytest.mark.filterwarnings(r"ignore:\s*Warning. tf.lite.Interpreter:UserWarning")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("weights"), DETECTOR)


def run_onnx(path, pictures):
    """Its outputs as those of the other formats: channels last, heads by number."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (picture,) = session.get_inputs()
    assert picture.name == "images"
    outputs = session.run(None, {"images": np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))})
    names = [output.name for output in session.get_outputs()]
    if names == ["boxes", "scores"]:
        return dict(zip(names, outputs, strict=True))
    return {f"output_{place}": output.transpose(0, 2, 3, 1) for place, output in enumerate(outputs)}


def run_lite(path, pictures):
    return tf.lite.Interpreter(str(path)).get_signature_runner("serving_default")(images=pictures)


def run_saved(path, pictures):
    function = tf.saved_model.load(path).signatures["serving_default"]
    return {name: output.numpy() for name, output in function(images=tf.constant(pictures)).items()}


RUNNERS = {"m.onnx": run_onnx, "m.tflite": run_lite, "m": run_saved}


def heads(outputs):
    return [outputs[f"output_{index}"] for index in range(len(outputs))]


@pytest.mark.slow
@pytest.mark.parametrize("text", [DETECTOR, REST], ids=["detector", "rest"])
def test_onnx_has_the_same_heads_for_any_batch(tmp_path, text):
    output = tmp_path / "m.onnx"
    done = convert(write_weights(tmp_path, text), text, output)
    assert (done.format, done.size_bytes) == (".onnx", output.stat().st_size)
    for batch in (1, 3):
        pictures = pictures_for(text, batch=batch)
        assert_close(heads(run_onnx(output, pictures)), reference(text)[1](pictures))


def test_onnx_of_any_size_has_the_same_heads(tmp_path, weights):
    convert(weights, DETECTOR, tmp_path / "m.onnx", any_size=True)
    for size in ((32, 32), (48, 20)):
        pictures = pictures_for(DETECTOR, size=size)
        actual = heads(run_onnx(tmp_path / "m.onnx", pictures))
        assert_close(actual, reference(DETECTOR, size=size)[1](pictures))


@pytest.mark.slow
def test_class_tree_probabilities_match_grouped_softmax(tmp_path):
    (tmp_path / "a.tree").write_text("a -1\nb -1\nc 0\nd 0\ne 0\nf 3\ng 3\nh -1\n")
    text = NET + conv(8) + "[avgpool]\n[softmax]\n"
    tree = text + f"temperature=2\ntree={tmp_path / 'a.tree'}\n"
    weights = write_weights(tmp_path, text)
    pictures = pictures_for(text, batch=1)
    # The logarithm of a softmax is what entered it, less one number.
    raw = np.log(reference(text)[1](pictures)[0].ravel())
    wanted = []
    for group in np.split(raw / 2, [2, 5, 7]):
        wanted += (np.exp(group) / np.exp(group).sum()).tolist()
    for name, run in RUNNERS.items():
        convert(weights, tree, tmp_path / name)
        (actual,) = heads(run(tmp_path / name, pictures))
        np.testing.assert_allclose(actual.ravel(), wanted, atol=1e-5)


LOCAL = "[local]\nsize=3\npad=1\nfilters=4\nactivation=leaky\n"


@pytest.mark.parametrize(
    ("section", "batch"), [("[maxpool]\nsize=3\nstride=2\n", None), (LOCAL, None), (LOCAL, 2)]
)
def test_onnx_has_sections_that_tensorflow_lite_lacks(section, batch, tmp_path):
    text = NET + conv(8) + section + conv(8)
    convert(write_weights(tmp_path, text), text, tmp_path / "m.onnx", batch_size=batch)
    pictures = pictures_for(text, batch=batch or 2)
    assert_close(heads(run_onnx(tmp_path / "m.onnx", pictures)), reference(text)[1](pictures))


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNNERS)
def test_fixed_batch_size_is_kept(name, tmp_path, weights):
    output = tmp_path / name
    convert(weights, DETECTOR, output, batch_size=3)
    pictures = pictures_for(DETECTOR, batch=3)
    assert_close(heads(RUNNERS[name](output, pictures)), reference(DETECTOR)[1](pictures))
    if name == "m.tflite":  # the interpreter resizes its input
        actual = heads(RUNNERS[name](output, pictures[:2]))
        assert_close(actual, reference(DETECTOR)[1](pictures[:2]))
        return
    with pytest.raises(Exception, match=r"(?i)dim|shape|incompatible|expected|got"):
        RUNNERS[name](output, pictures[:2])


def sigmoid(values):
    return 1 / (1 + np.exp(-values.astype(np.float64)))


def decoded(raws, text):
    """Boxes and scores by Darknet's rules (yolo_layer.c:131): [yolo], scale_x_y 1."""
    network = cfg.parse_cfg(text)
    anchors = np.array(ANCHORS.split(","), float).reshape(-1, 2)
    height, width, _ = network.input_shape
    boxes, scores = [], []
    for raw, head in zip(raws, network.heads, strict=True):
        batch, rows, columns, _ = raw.shape
        raw = raw.reshape(batch, rows, columns, 3, 7).astype(np.float64)
        cell = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), -1)[:, :, None]
        centre = (sigmoid(raw[..., :2]) + cell) / [columns, rows]
        extent = np.exp(raw[..., 2:4]) * anchors[list(head.mask)] / [width, height]
        boxes.append(np.concatenate([centre - extent / 2, centre + extent / 2], -1))
        scores.append(sigmoid(raw[..., 4:5]) * sigmoid(raw[..., 5:]))
    return [
        np.concatenate([part.reshape(batch, -1, part.shape[-1]) for part in parts], 1)
        for parts in (boxes, scores)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("reverse_outputs", [False, True])
@pytest.mark.parametrize("name", RUNNERS)
def test_decode_gives_boxes_and_scores(name, reverse_outputs, tmp_path, weights):
    output = tmp_path / name
    convert(weights, DETECTOR, output, decode=True, reverse_outputs=reverse_outputs)
    pictures = pictures_for(DETECTOR, batch=1)
    outputs = RUNNERS[name](output, pictures)
    assert sorted(outputs) == ["boxes", "scores"]
    boxes, scores = decoded(reference(DETECTOR)[1](pictures), DETECTOR)
    assert boxes.shape == (1, 3 * (8 * 8 + 16 * 16), 4)
    assert scores.shape == (1, 3 * (8 * 8 + 16 * 16), 2)
    np.testing.assert_allclose(outputs["boxes"], boxes, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(outputs["scores"], scores, rtol=0, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "section",
    [
        "[region]\nanchors=1,2, 3,4\nclasses=2\nnum=2\ncoords=4\nsoftmax=1\n",
        "[Gaussian_yolo]\nmask=0\nanchors=10,14\nclasses=5\nnum=1\n",
    ],
)
@pytest.mark.parametrize("name", RUNNERS)
def test_decoding_of_other_heads_is_that_of_the_detector(name, section, tmp_path):
    from yolotf.graphs.decode import decode_head

    text = NET + conv(8, stride=2) + conv(14) + section
    output = tmp_path / name
    convert(write_weights(tmp_path, text), text, output, decode=True)
    pictures = pictures_for(text, batch=1)
    outputs = RUNNERS[name](output, pictures)
    network = cfg.parse_cfg(text)
    wanted = decode_head(reference(text)[1](pictures)[0], network.heads[0], (32, 32))
    centre, extent = np.split(np.asarray(wanted.boxes), 2, -1)
    corners = np.concatenate([centre - extent / 2, centre + extent / 2], -1)
    np.testing.assert_allclose(outputs["boxes"], corners, rtol=2e-5, atol=2e-5)
    scores = wanted.objectness[..., None] * wanted.probabilities
    np.testing.assert_allclose(outputs["scores"], scores, rtol=0, atol=2e-5)


@pytest.mark.slow
def test_decode_works_for_any_size(tmp_path, weights):
    convert(weights, DETECTOR, tmp_path / "m", decode=True, any_size=True)
    pictures = pictures_for(DETECTOR, batch=2, size=(48, 20))
    outputs = run_saved(tmp_path / "m", pictures)
    wide = DETECTOR.replace("width=32", "width=20").replace("height=32", "height=48")
    raws = reference(DETECTOR, size=(48, 20))[1](pictures)
    for output, other in zip(
        (outputs["boxes"], outputs["scores"]), decoded(raws, wide), strict=True
    ):
        np.testing.assert_allclose(output, other, rtol=2e-5, atol=2e-5)


def test_a_network_without_heads_cannot_be_decoded(tmp_path):
    text = NET + conv(8)
    with refused(errors.UnsupportedSectionError):
        convert(write_weights(tmp_path, text), text, tmp_path / "m.tflite", decode=True)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of pictures of several sizes."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(2)
    for number, size in enumerate([(32, 32), (50, 40), (20, 64), (33, 31), (64, 64)]):
        pixels = random.integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "labels.txt").write_text("no picture")
    return folder


@pytest.mark.slow
def test_half_precision_is_half_as_large(tmp_path, weights):
    plain, half = tmp_path / "plain.tflite", tmp_path / "half.tflite"
    convert(weights, DETECTOR, plain)
    convert(weights, DETECTOR, half, float16=True)
    assert half.stat().st_size < 0.75 * plain.stat().st_size
    images = pictures_for(DETECTOR, batch=1)
    for rounded, other in zip(
        heads(run_lite(half, images)), reference(DETECTOR)[1](images), strict=True
    ):
        np.testing.assert_allclose(rounded, other, rtol=0, atol=5e-3 * np.abs(other).max())
        assert np.abs(rounded - other).max() > 0


@pytest.mark.slow
@pytest.mark.parametrize("batch", [None, 2])
def test_int8_is_close_and_mostly_int8(batch, tmp_path, weights, pictures):
    output = tmp_path / "m.tflite"
    stages = []
    convert(
        weights,
        DETECTOR,
        output,
        int8=pictures,
        batch_size=batch,
        progress=lambda *call: stages.append(call),
    )
    count = 5 if batch is None else 6
    assert [call[1:] for call in stages if call[0] == "calibrating"] == [
        (done, count) for done in range(0, count + 1, batch or 1)
    ]
    assert [call for call in stages if call[0] == "writing"] == [
        ("writing", 0, 1),
        ("writing", 1, 1),
    ]
    interpreter = tf.lite.Interpreter(str(output))
    kinds = [detail["dtype"] for detail in interpreter.get_tensor_details()]
    assert kinds.count(np.int8) > len(kinds) / 2
    for detail in (*interpreter.get_input_details(), *interpreter.get_output_details()):
        assert detail["dtype"] == np.float32
    fitted = np.asarray(Image.open(pictures / "0.png"), np.float32)[None] / 255
    fitted = np.repeat(fitted, batch or 1, 0)
    for rounded, other in zip(
        heads(run_lite(output, fitted)), reference(DETECTOR)[1](fitted), strict=True
    ):
        error = np.abs(rounded - other)
        assert error.mean() < 0.05 * other.std(), "8 bits of the range in every layer"
        assert np.corrcoef(rounded.ravel(), other.ravel())[0, 1] > 0.99


@pytest.mark.slow
def test_pictures_for_int8_may_be_files_and_folders(tmp_path, weights, pictures):
    files = [pictures, str(pictures / "1.png")]
    stages = []
    convert(
        weights,
        DETECTOR,
        tmp_path / "m.tflite",
        int8=files,
        progress=lambda *call: stages.append(call),
    )
    assert ("calibrating", 6, 6) in stages


def test_a_folder_for_int8_gives_the_images_that_detect_reads_there(tmp_path):
    for ending in (*IMAGES, ".txt", ".weights"):
        (tmp_path / f"a{ending}").touch()
        (tmp_path / f"b{ending.upper()}").touch()
    taken = calibration.image_files(tmp_path)
    assert {path.suffix.lower() for path in taken} == set(IMAGES)
    assert len(taken) == 2 * len(IMAGES)


def test_failed_calibration_leaves_the_old_file(tmp_path, weights):
    output = tmp_path / "m.tflite"
    output.write_text("old")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/a.jpg").write_bytes(b"no picture")
    stages = []
    with refused(errors.YolotfError):
        convert(
            weights,
            DETECTOR,
            output,
            int8=tmp_path / "empty",
            progress=lambda *call: stages.append(call),
        )
    with pytest.raises(FileNotFoundError) as caught:
        convert(
            weights,
            DETECTOR,
            output,
            int8=[tmp_path / "none.png"],
            progress=lambda *call: stages.append(call),
        )
    assert caught.value.filename == str(tmp_path / "none.png")
    assert stages == []
    with refused((OSError, errors.YolotfError)):
        convert(weights, DETECTOR, output, int8=tmp_path / "broken")
    assert output.read_text() == "old"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        (
            "m.keras",
            {"batch_size": 2},
        ),
        ("m.h5", {"decode": True}),
        ("m.onnx", {"float16": True}),
        ("m", {"int8": __file__}),
        ("m.tflite", {"float16": True, "int8": __file__}),
        ("m.tflite", {"batch_size": 0}),
    ],
)
def test_options_of_other_formats_are_refused_first(name, options, tmp_path, weights):
    stages = []
    with refused(errors.YolotfError):
        convert(
            weights,
            DETECTOR,
            tmp_path / name,
            progress=lambda *call: stages.append(call),
            **options,
        )
    assert stages == []


def test_without_onnx_the_extra_is_named_before_any_work(tmp_path, monkeypatch, weights):
    import sys

    for name in [module for module in sys.modules if module.split(".")[0] == "onnx"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnx", None)
    stages = []
    with refused(ImportError):
        convert(weights, DETECTOR, tmp_path / "m.onnx", progress=lambda *call: stages.append(call))
    assert (stages, list(tmp_path.iterdir())) == ([], [])


@pytest.mark.slow
def test_convert_command_takes_int8_batch_and_decode(tmp_path, weights, pictures, capsys):
    (tmp_path / "net.cfg").write_text(DETECTOR)
    output = tmp_path / "m.tflite"
    common = ["convert", str(weights), "--cfg", str(tmp_path / "net.cfg"), "-o", str(output)]
    assert cli.main([*common, "--int8", str(pictures), "--batch", "2", "--decode"]) == 0
    said(capsys.readouterr().err)
    outputs = run_lite(output, pictures_for(DETECTOR, batch=2))
    assert outputs["boxes"].shape == (2, 960, 4)
    assert cli.main([*common, "--overwrite", "--fp16"]) == 0
    capsys.readouterr()
    assert cli.main([*common, "--overwrite", "--fp16", "--int8", str(pictures)]) == 2
    said(capsys.readouterr().err)


def detections_of(outputs, names, score=0.25, iou=0.45):
    """Thresholds and plain greedy suppression, class by class."""
    rows = []
    boxes, scores = outputs["boxes"][0], outputs["scores"][0]
    for class_id in range(scores.shape[1]):
        order = [row for row in np.argsort(-scores[:, class_id]) if scores[row, class_id] > score]
        while order:
            best, *order = order
            rows.append((boxes[best], scores[best, class_id], class_id))
            order = [row for row in order if overlap(boxes[best], boxes[row]) <= iou]
    rows.sort(key=lambda row: -row[1])
    columns = [np.array(column, np.float32) for column in zip(*rows, strict=True)]
    return Detections.of(columns[0], columns[1], columns[2].astype(np.int32), names)


def overlap(a, b):
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    intersection = np.prod(np.maximum(high - low, 0))
    return intersection / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - intersection)


@pytest.mark.slow
def test_int8_costs_little_of_the_score(official_tiny, tmp_path):
    """mAP of a trained network on labelled pictures, by the formats and by yolotf's own path."""
    folder = write_set(official_tiny, tmp_path / "set")
    data = evaluation.read_darknet(folder / "obj.data")
    text = official_tiny.cfg.read_text().replace("nms_kind=greedynms", "nms_kind=default")
    network = cfg.parse_cfg(text)
    asked = {"float32": {}, "int8": {"int8": folder}}
    detected = {name: [] for name in asked}
    for name, options in asked.items():
        path = tmp_path / f"{name}.tflite"
        convert(official_tiny.weights, network, path, decode=True, **options)
        runner = tf.lite.Interpreter(str(path)).get_signature_runner("serving_default")
        for annotated in data.images:
            with Image.open(annotated.path) as image:
                pixels = np.asarray(image.convert("RGB"))
            answer = runner(images=fit(tf.constant(pixels[None]), (416, 416), letter_box=False))
            # Boxes are relative, so that every picture is one pixel.
            detected[name].append((detections_of(answer, data.class_names, score=0.005), (1, 1)))
    assert (tmp_path / "int8.tflite").stat().st_size < 7_000_000
    scores = {
        name: evaluation.score(some, data.images, data.class_names)
        for name, some in detected.items()
    }
    scores["own"] = evaluation.evaluate(network, official_tiny.weights, data)
    labelled = [counts.class_id for counts in scores["own"].classes if counts.truths]
    mean = {
        name: np.mean([score.classes[class_id].ap for class_id in labelled])
        for name, score in scores.items()
    }
    assert mean["own"] > 0.5
    assert abs(mean["float32"] - mean["own"]) < 1e-3
    assert mean["int8"] > mean["float32"] - 0.08
    assert scores["int8"].tp > scores["float32"].tp - 4
