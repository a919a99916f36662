"""Exported SavedModels, read by others than TensorFlow's Python."""

import errno
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from support import helpers
from support.cfgs import conv, net, yolo
from support.exports import BODY, CLASSIFIER, HEAD, HEADS, assert_detections, exported, images
from support.messages import refused
from support.networks_of_sections import SECTIONS, SMALL
from yolotf import Classifier, Detector, convert, parse_cfg
from yolotf.models.keras_module import keras

pytestmark = pytest.mark.slow


def openvino_of(saved):
    openvino = pytest.importorskip("openvino", reason="needs openvino")
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(saved, "CPU", options)

    def run(pictures):
        return {output.any_name: values for output, values in compiled(pictures).items()}

    return run


@pytest.mark.skipif(sys.platform != "linux", reason="file names are text elsewhere")
def test_a_folder_whose_name_is_not_utf_8_is_refused_before_anything_is_written(tmp_path):
    network = parse_cfg(net(32) + conv(18) + yolo(1, "4,4, 8,8, 16,16"))
    weights = tmp_path / "a.weights"
    helpers.write_weights(weights, network)
    folder = tmp_path / os.fsdecode(b"\xff\xfe")
    for write in (
        lambda: Detector(network, weights).export(folder),
        lambda: convert(weights, network, folder),
    ):
        with refused(OSError, errno=errno.EILSEQ, filename=str(folder)):
            write()
    assert [path.name for path in tmp_path.iterdir()] == ["a.weights"]


@pytest.mark.parametrize("name", HEADS)
def test_openvino_detects_the_same_from_an_export(name, tmp_path):
    detector, saved = exported(HEADS[name], tmp_path, score_threshold=0.2, max_boxes=20)
    run = openvino_of(saved)
    assert_detections(run(images()), detector(list(images())))
    assert run(images(0))["boxes"].shape == (0, 20, 4)


def every_section():
    """Each behind two layers of one shape, and all joined in front of the head."""
    text, ends = BODY, []
    for name, section in SECTIONS.items():
        if not name.startswith("activations"):  # which count their layers themselves
            text += f"[route]\nlayers=1\n[route]\nlayers=1\n{section.strip()}\n[avgpool]\n"
            ends.append(str(text.count("[") - 2))  # [net] is not counted
    return f"{text}[route]\nlayers={','.join(ends)}\n{HEAD}"


@pytest.mark.parametrize(
    "text",
    [
        every_section(),
        *(f"{BODY}{SECTIONS[name]}\n{HEAD}" for name in SECTIONS if name.startswith("activations")),
    ],
    ids=["sections", "activations", "activations of convolutions"],
)
def test_openvino_runs_every_section(text, tmp_path):
    detector, saved = exported(text, tmp_path, score_threshold=0.15, max_boxes=20)
    assert_detections(openvino_of(saved)(images()), detector(list(images())))


def test_openvino_classifies_alike(tmp_path):
    classify, saved = exported(CLASSIFIER, tmp_path, Classifier)
    rows = openvino_of(saved)(images())["probabilities"]
    for expected, row in zip(classify(list(images()), top=5), rows, strict=True):
        np.testing.assert_allclose(row[expected.classes], expected.scores, atol=1e-6)


@pytest.mark.skipif(keras().__name__ == "tf_keras", reason="tf_keras has no TFSMLayer")
def test_an_export_works_as_a_keras_layer(tmp_path):
    detector, saved = exported(SMALL, tmp_path, score_threshold=0.2, max_boxes=20)
    layer = keras().layers.TFSMLayer(saved, call_endpoint="serving_default")
    answer = {name: output.numpy() for name, output in layer(tf.constant(images())).items()}
    assert_detections(answer, detector(list(images())))


@pytest.mark.parametrize(
    ("text", "kind"), [(SMALL, Detector), (HEADS["letter_box"], Detector), (CLASSIFIER, Classifier)]
)
def test_the_graph_has_nothing_that_tensorflow_js_lacks(text, kind, tmp_path):
    """What it refused at one time or another; `make test-js` runs exports there."""
    _, saved = exported(text, tmp_path, kind)
    signature = tf.saved_model.load(saved).signatures["serving_default"]
    graph = signature.graph.as_graph_def()
    nodes = [
        *graph.node,
        *(node for function in graph.library.function for node in function.node_def),
    ]
    # What GatherNd finds none of cannot be split there.
    lacking = {"EnsureShape", "GatherNd", "TruncateDiv", "UnsortedSegmentSum"}
    assert not lacking & {node.op for node in nodes}
    constants = [node.attr["value"].tensor.dtype for node in nodes if node.op == "Const"]
    assert tf.uint8.as_datatype_enum not in constants


# TensorFlow Serving


def run_in_session(saved, signature, images):
    """Outputs by name, as TensorFlow Serving computes them: a signature is names of tensors."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        model = tf.compat.v1.saved_model.load(session, ["serve"], str(saved))
        named = model.signature_def[signature]
        outputs = {name: output.name for name, output in named.outputs.items()}
        return session.run(outputs, {named.inputs["images"].name: images})


@pytest.mark.parametrize("kind", [Detector, Classifier])
def test_an_export_has_warmup_requests_for_serving(kind, tmp_path):
    """Each record is a request that the model answers, as the API's package reads it."""
    logs = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    text = SMALL if kind is Detector else CLASSIFIER
    _, saved = exported(text, tmp_path, kind)
    path = saved / "assets.extra/tf_serving_warmup_requests"
    records = [record.numpy() for record in tf.data.TFRecordDataset(str(path))]
    loaded = tf.saved_model.load(saved)
    asked = []
    for record in records:
        log = logs.PredictionLog.FromString(record)
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        asked.append(request.model_spec.signature_name)
        assert list(request.inputs) == ["images"]
        images = tf.make_ndarray(request.inputs["images"])
        served = run_in_session(saved, asked[-1], images)
        answer = loaded.signatures[asked[-1]](images=tf.constant(images))
        assert served.keys() == answer.keys()
        for name, output in answer.items():
            assert len(output) == 1
            np.testing.assert_allclose(served[name], output, rtol=1e-5, atol=1e-5)
        if asked[-1] == "encoded":
            assert served["readable"].all()
        else:
            assert images.shape == (1, *parse_cfg(text).input_shape)
    assert sorted(asked) == sorted(loaded.signatures)
    wanted = ["encoded"] if kind is Detector else ["probabilities"]
    assert sorted(asked) == [*wanted, "serving_default"]


@pytest.mark.parametrize("kind", [Detector, Classifier])
def test_class_names_are_an_asset(kind, tmp_path):
    text, names = (SMALL, list("abcd")) if kind is Detector else (CLASSIFIER, list("abcde"))
    _, saved = exported(text, tmp_path, kind, class_names=names)
    asset = tf.saved_model.load(saved).class_names.asset_path.numpy().decode()
    assert asset == str(saved / "assets/classes.names")
    for folder in ("assets", "assets.extra"):
        assert (saved / folder / "classes.names").read_text().split() == names
    exported(text, tmp_path, kind)
    assert not list((saved / "assets").iterdir())


FULL = """
import resource, signal, sys
import yolotf
detector = yolotf.Detector(sys.argv[1], sys.argv[2])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    detector.export(sys.argv[3])
except OSError as error:
    print(error.errno, error.filename)
"""


def test_a_detector_exported_onto_a_full_disk_is_an_error_of_the_system(tmp_path):
    cfg = tmp_path / "a.cfg"
    cfg.write_text(net(32) + conv(90, 3) + conv(90, 3) + conv(18) + yolo(1, "4,4, 8,8, 16,16"))
    helpers.write_weights(tmp_path / "a.weights", parse_cfg(cfg))
    arguments = [cfg, tmp_path / "a.weights", tmp_path / "model"]
    done = subprocess.run(
        [sys.executable, "-c", FULL, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == f"{errno.EFBIG} {tmp_path / 'model'}\n", done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.cfg", "a.weights"]


RUN = """
import sys
import tensorflow as tf
folder, image = sys.argv[1:]
pixels = tf.io.decode_jpeg(tf.io.read_file(image), 3, dct_method="INTEGER_ACCURATE")[None]
answer = tf.saved_model.load(folder).signatures["serving_default"](images=pixels)
print(*answer["scores"][0, : int(answer["counts"][0])].numpy())
"""


def test_an_export_finds_the_same_where_xla_compiles_clusters(official_tiny, tmp_path):
    """In a cluster, XLA computes wrong indices of the boxes above the threshold."""
    detector = Detector(official_tiny.cfg, official_tiny.weights)
    detector.export(tmp_path / "1")
    flags = {"TF_XLA_FLAGS": "--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit"}
    command = [sys.executable, "-c", RUN, tmp_path / "1", official_tiny.bus]
    ran = subprocess.run(
        command, env={**os.environ, **flags}, capture_output=True, text=True, check=True
    )
    expected = detector(official_tiny.bus).scores
    np.testing.assert_allclose(np.array(ran.stdout.split(), float), expected, atol=2e-3)
