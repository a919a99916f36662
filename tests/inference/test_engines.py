"""Every engine behind Detector and Classifier: the same answers, life cycle and errors."""

import copy
import gc
import json
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import weakref

import numpy as np
import pytest
from PIL import Image

import yolotf
from support import helpers, numpy_loader
from support.cfgs import conv, net, normalized, section
from support.messages import refused, said
from support.networks_of_sections import SECTIONS, SMALL, around
from yolotf import environment_report
from yolotf.cli.commands import main
from yolotf.darknet.cfg import parse_cfg
from yolotf.errors import (
    EngineError,
    MissingPackageError,
    OutOfMemoryError,
    SizeMismatchError,
    UnsupportedSectionError,
    YolotfError,
)
from yolotf.inference.engines import open_engine
from yolotf.runtime import openvino_engine
from yolotf.runtime.network import RuntimeNetwork
from yolotf.runtime.onnx_engine import translated_errors
from yolotf.runtime.openvino_engine import library
from yolotf.runtime.options import ENGINES, ServingOptions
from yolotf.weights.file import WeightsFile

OTHERS = [name for name in ENGINES if name != "tensorflow"]
CLASSIFIER = (
    net(24)
    + normalized(8, 3, stride=2)
    + normalized(16, 3, groups=8, stride=2)
    + section("avgpool")
    + section("connected", output=5, activation="linear")
    + section("softmax")
    + section("cost")
)
TRACKER = (
    net(32)
    + normalized(4, 3, stride=2)
    + section("crnn", batch_normalize=1, size=3, pad=1, hidden=6, output=8, activation="leaky")
    + section("conv_lstm", size=3, pad=1, output=6, activation="tanh", batch_normalize=1)
    + conv(18)
    + section("yolo", mask="0,1,2", anchors="4,4, 8,8, 16,16", classes=1, num=3)
)


@pytest.fixture(params=OTHERS)
def engine(request):
    """The engines beside TensorFlow."""
    pytest.importorskip(request.param, reason=f"needs the extra {request.param}")
    return request.param


@pytest.fixture
def small_file(tmp_path):
    def make(seed=3, text=SMALL):
        path = tmp_path / f"{seed}.weights"
        path.write_bytes(numpy_loader.random_file(text, seed))
        return path

    return make


def opened(network, path, engine, threads=2):
    with WeightsFile.open(path) as file:
        return open_engine(network, file, ServingOptions(engine=engine), threads)


def assert_close(heads, expected, tolerance=2e-5):
    assert [head.shape for head in heads] == [head.shape for head in expected]
    for head, other in zip(heads, expected, strict=True):
        assert head.dtype == np.float32
        assert head.flags.c_contiguous
        assert np.ptp(other) > 0
        np.testing.assert_allclose(head, other, rtol=0, atol=tolerance * np.abs(other).max())


def images(count=3, seed=1):
    random = np.random.default_rng(seed)
    return [
        random.integers(0, 256, (20 + 9 * number, 50, 3)).astype(np.uint8)
        for number in range(count)
    ]


def assert_same_detections(actual, expected):
    assert len(actual) == len(expected)
    assert any(len(detections) for detections in expected)
    for detections, other in zip(actual, expected, strict=True):
        assert detections.classes.tolist() == other.classes.tolist()
        np.testing.assert_allclose(detections.scores, other.scores, atol=1e-5)
        np.testing.assert_allclose(detections.xyxy, other.xyxy, rtol=1e-4, atol=1e-2)


# Numbers


@pytest.mark.slow
@pytest.mark.parametrize("name", SECTIONS)
def test_sections_compute_what_tensorflow_does(name, engine, small_file):
    text = around(SECTIONS[name])
    network, path = parse_cfg(text), small_file(len(text), text)
    pictures = np.random.default_rng(1).random((3, *network.input_shape), np.float32)
    ours, weights = opened(network, path, engine)
    theirs, others = RuntimeNetwork.opened(network, path)
    assert_close(ours.raw_heads(pictures, weights), theirs.raw_heads(pictures, others))
    assert_close(ours.raw_heads(pictures[:1], weights), theirs.raw_heads(pictures[:1], others))
    expected = theirs.hwio_weights(others)
    actual = ours.hwio_weights(weights)
    assert actual.keys() == expected.keys()
    for key, array in expected.items():
        np.testing.assert_allclose(actual[key], array, rtol=1e-6, err_msg=key)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolov4-tiny", "yolov7-tiny", "enet-coco"])
def test_stock_networks_compute_what_tensorflow_does(name, engine, tmp_path):
    network = yolotf.network(name, size=(64, 96))
    path = tmp_path / "a.weights"
    helpers.write_weights(path, network, scale=0.05)
    pictures = np.random.default_rng(1).random((2, *network.input_shape), np.float32)
    ours, weights = opened(network, path, engine)
    theirs, others = RuntimeNetwork.opened(network, path)
    assert_close(ours.raw_heads(pictures, weights), theirs.raw_heads(pictures, others), 1e-4)


def test_results_outlive_the_next_run(engine, small_file):
    network = parse_cfg(SMALL)
    ours, weights = opened(network, small_file(), engine)
    random = np.random.default_rng(1)
    first, second = random.random((2, 1, *network.input_shape), np.float32)
    heads = ours.raw_heads(first, weights)
    kept = [head.copy() for head in heads]
    ours.raw_heads(second, weights)
    for head, copied in zip(heads, kept, strict=True):
        np.testing.assert_array_equal(head, copied)


# Detector and Classifier


def test_detections_are_those_of_tensorflow(engine, small_file):
    options = {
        "score_threshold": 0.2,
        "iou_threshold": 0.4,
        "batch_size": 2,
        "letter_box": True,
        "only": [0, 2],
    }
    network, path = parse_cfg(SMALL), small_file()
    expected = yolotf.Detector(network, path, **options)(images())
    detector = yolotf.Detector(network, path, engine=engine, **options)
    assert_same_detections(detector(images()), expected)
    assert_same_detections([detector(image) for image in images()], expected)
    assert len(detector([])) == 0


def test_probabilities_are_those_of_tensorflow(engine, small_file):
    network, path = parse_cfg(CLASSIFIER), small_file(1, CLASSIFIER)
    expected = yolotf.Classifier(network, path).probabilities(images())
    classifier = yolotf.Classifier(network, path, engine=engine, batch_size=2, threads=1)
    np.testing.assert_allclose(classifier.probabilities(images()), expected, atol=1e-5)
    assert np.ptp(expected, axis=0).min() > 0
    classifier.reload(path)
    assert classifier.reloads == 1
    np.testing.assert_allclose(classifier.probabilities(images()), expected, atol=1e-5)


def test_recurrent_state_is_kept_between_calls(engine, tmp_path):
    network, path = parse_cfg(TRACKER), tmp_path / "a.weights"
    helpers.write_weights(path, network, scale=0.2)
    expected = yolotf.Detector(network, path, score_threshold=0.3)(images(5))
    detector = yolotf.Detector(network, path, score_threshold=0.3, engine=engine)
    assert detector.stateful
    assert_same_detections(detector(images(5)), expected)
    detector.reset()
    assert_same_detections([*detector(images(5)[:2]), *detector(images(5)[2:])], expected)
    detector.reload(path)
    assert_same_detections(detector(images(5)), expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda detector: pickle.loads(pickle.dumps(detector))]
)
def test_copies_have_the_same_engine(engine, copied, small_file):
    detector = yolotf.Detector(parse_cfg(SMALL), small_file(), score_threshold=0.2, engine=engine)
    again = copied(detector)
    assert again._served.options == detector._served.options
    assert again._served.options.engine == engine
    assert_same_detections(again(images()), detector(images()))


@pytest.mark.slow
def test_exports_do_not_depend_on_the_engine(engine, small_file, tmp_path):
    import tensorflow as tf

    detector = yolotf.Detector(parse_cfg(SMALL), small_file(), score_threshold=0.2, engine=engine)
    detector.export(tmp_path / "saved")
    signature = tf.saved_model.load(tmp_path / "saved").signatures["serving_default"]
    image = images(1)[0]
    answer, detections = signature(images=tf.constant(image[None])), detector(image)
    count = int(answer["counts"][0])
    assert count == len(detections) > 0
    np.testing.assert_allclose(answer["scores"][0, :count], detections.scores, atol=1e-5)


# Reload


def test_refused_files_leave_the_old_weights(engine, small_file, tmp_path):
    detector = yolotf.Detector(parse_cfg(SMALL), small_file(), score_threshold=0.2, engine=engine)
    expected = detector(images())
    bad = tmp_path / "bad.weights"
    bad.write_bytes(small_file().read_bytes()[:-400])
    with pytest.raises(SizeMismatchError) as error:
        detector.reload(bad)
    assert error.value.diagnosis.to_dict()["causes"]
    assert detector.reloads == 0
    assert detector.weights.path == str(small_file())
    assert_same_detections(detector(images()), expected)


@pytest.mark.slow
def test_replaced_weights_are_freed(engine, small_file):
    detector = yolotf.Detector(parse_cfg(SMALL), small_file(), engine=engine)
    detector(images())
    old = weakref.ref(detector._served.active.loaded)
    arrays = weakref.ref(next(iter(old().arrays.values())))
    detector.reload(small_file(4))
    gc.collect()
    assert old() is None
    assert arrays() is None


@pytest.mark.slow
def test_answers_of_many_threads_are_of_one_file_or_the_other(engine, small_file):
    network, image = parse_cfg(SMALL), images(1)[0]
    files = [small_file(1), small_file(2)]
    options = {"score_threshold": 0.1, "engine": engine, "threads": 2}

    def answer(detector):
        single, *several = [detector(image), *detector([image, image])]
        assert len(several) == 2
        return single.scores.round(4).tolist()

    allowed = [answer(yolotf.Detector(network, file, **options)) for file in files]
    assert allowed[0] != allowed[1]
    detector = yolotf.Detector(network, files[0], **options)
    done, failures, seen = threading.Event(), [], []

    def ask():
        try:
            while not done.is_set():
                seen.append(allowed.index(answer(detector)))
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(30):
        detector.reload(files[(number + 1) % 2])
        assert answer(detector) == allowed[(number + 1) % 2]
    done.set()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert set(seen) == {0, 1}


# Errors


@pytest.mark.parametrize("name", OTHERS)
def test_missing_engine_packages_are_named(name, small_file, monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, name, None)
    openvino_engine._core.cache_clear()
    with refused(MissingPackageError):
        yolotf.Detector(parse_cfg(SMALL), small_file(), engine=name)
    with refused(MissingPackageError):
        yolotf.Classifier(parse_cfg(CLASSIFIER), small_file(1, CLASSIFIER), engine=name)
    (tmp_path / "a.cfg").write_text(SMALL)
    Image.fromarray(images(1)[0]).save(tmp_path / "a.png")
    arguments = ["--cfg", str(tmp_path / "a.cfg"), "--weights", str(small_file())]
    assert main(["detect", str(tmp_path / "a.png"), *arguments, "--json", "--engine", name]) == 2
    said(capsys.readouterr().err)


@pytest.mark.parametrize(
    "options",
    [
        {"engine": "tensorrt"},
        {"precision": "half"},
        {"precision": "bfloat16"},
        {"precision": "bfloat16", "engine": "onnxruntime"},
    ],
)
@pytest.mark.parametrize("door", [yolotf.Detector, yolotf.Classifier])
def test_unknown_engines_are_refused_before_the_file_is_opened(door, options):
    with refused(ValueError):
        door(parse_cfg(SMALL), "missing.weights", **options)


def test_engine_failures_become_engine_errors(engine, small_file):
    network = parse_cfg(SMALL)
    ours, weights = opened(network, small_file(), engine)
    wrong = np.zeros((2, 32, 32, 3), np.float32)
    with refused(EngineError, hide=r"(?s)(?<=64x32: ).*") as error:
        ours.raw_heads(wrong, weights)
    assert error.value.facts == {
        "engine": engine,
        "source": "<cfg>",
        "input_size": (32, 64),
        "batch": 2,
        "said": error.value.said,
    }
    assert "\n" not in str(error.value)
    # The next run is as if nothing had been.
    fine = np.zeros((2, *network.input_shape), np.float32)
    assert len(ours.raw_heads(fine, weights)) == 2


def test_openvino_compiles_a_model_for_the_batch_sizes_in_use(small_file, monkeypatch):
    pytest.importorskip("openvino", reason="needs the extra openvino")
    batches = []
    compiled = openvino_engine.OpenVino.compiled

    def counted(self, model, arrays, batch):
        batches.append(batch)
        return compiled(self, model, arrays, batch)

    monkeypatch.setattr(openvino_engine.OpenVino, "compiled", counted)
    network = parse_cfg(SMALL)
    ours, weights = opened(network, small_file(), "openvino")
    inputs = np.random.default_rng(0).random((5, *network.input_shape), np.float32)
    singles = [ours.raw_heads(image[None], weights) for image in inputs]
    assert batches == [1]

    def compute(*counts):
        batches.clear()
        for count in counts:
            for head, *each in zip(ours.raw_heads(inputs[:count], weights), *singles, strict=True):
                np.testing.assert_allclose(head, np.concatenate(each[:count]), rtol=1e-4, atol=1e-5)
        return batches

    assert compute(3, 3, 1) == [3]
    assert compute(2, 3, 5, 1) == [None]
    batches.clear()
    opened_again = ours.load(small_file(4))
    assert sorted(batches, key=str) == [1, None]
    assert len(ours.raw_heads(inputs[:4], opened_again)) == len(singles[0])
    assert len(batches) == 2


def test_failed_allocations_become_out_of_memory_errors():
    network = parse_cfg(SMALL)
    for refusal in (MemoryError(), RuntimeError("Exception: std::bad_alloc")):
        with refused(OutOfMemoryError), translated_errors("x", network, 1):
            raise refusal


def test_networks_that_cannot_be_computed_are_refused(engine, small_file):
    text = SMALL.replace("[convolutional]", "[convolutional]\ndontload=1", 1)
    with refused(UnsupportedSectionError):
        yolotf.Detector(parse_cfg(text), small_file(), engine=engine)


def test_bfloat16_is_refused_where_the_processor_has_none(small_file, monkeypatch):
    core = library().Core()
    monkeypatch.setattr(openvino_engine, "_core", lambda: core)
    monkeypatch.setattr(type(core), "get_property", lambda *_: ["FP32"])
    with refused(YolotfError, code="refused"):
        yolotf.Detector(parse_cfg(SMALL), small_file(), engine="openvino", precision="bfloat16")


def test_openvino_runs_in_bfloat16_on_request(small_file):
    network, path = parse_cfg(SMALL), small_file()
    capabilities = library().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    options = {"score_threshold": 0.2, "engine": "openvino", "precision": "bfloat16"}
    if "BF16" not in capabilities:
        pytest.skip("this processor has no bfloat16")
    if os.environ.get("ONEDNN_MAX_CPU_ISA"):
        pytest.skip("OpenVINO's capabilities are the processor's, not those of the limit")
    exact = yolotf.Detector(network, path, score_threshold=0.2)(images(1)[0])
    detections = yolotf.Detector(network, path, **options)(images(1)[0])
    size = min(len(exact), len(detections), 3)
    difference = np.abs(detections.scores[:size] - exact.scores[:size]).max()
    assert 1e-6 < difference < 0.05


# Processes


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Detector", "Classifier"])
def test_tensorflow_is_neither_imported_nor_opened(engine, kind, small_file, tmp_path):
    text = SMALL if kind == "Detector" else CLASSIFIER
    (tmp_path / "a.cfg").write_text(text)
    code = f"""
    import sys
    from pathlib import Path
    import numpy as np
    import yolotf

    served = yolotf.{kind}(sys.argv[1], sys.argv[2], engine={engine!r})
    served(np.zeros((30, 40, 3), np.uint8))
    served([np.zeros((30, 40, 3), np.uint8)] * 2)
    served.reload(sys.argv[2])
    # Nor Pillow, which is for files.
    loaded = [name for name in ("tensorflow", "keras", "onnx", "PIL") if name in sys.modules]
    assert not loaded, loaded
    assert "libtensorflow" not in Path("/proc/self/maps").read_text()
    """
    arguments = [str(tmp_path / "a.cfg"), str(small_file(3, text))]
    run_python(code, *arguments)


def run_python(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(helpers.PYTHONPATH)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


FORKING = """
    import os, signal, sys, warnings
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    import numpy as np
    import yolotf

    image = np.random.default_rng(1).integers(0, 256, (200, 300, 3)).astype(np.uint8)
    make = lambda: yolotf.Detector(*sys.argv[1:], score_threshold=0.2, engine=engine, threads=4)
    detector = make()
"""


@pytest.mark.slow
def test_engines_work_in_forked_processes(engine, small_file, tmp_path):
    """TensorFlow's would wait for threads that are not there, and so would the end of a session."""
    (tmp_path / "a.cfg").write_text(SMALL)
    code = f"""
    engine = {engine!r}
    {FORKING}
    expected = detector(image).scores.tolist()
    assert expected
    if not (child := os.fork()):
        signal.alarm(60)
        answers = [either(image).scores.tolist() for either in (detector, make())]
        for _ in range(2):
            detector.reload(sys.argv[2])
            answers.append(detector(image).scores.tolist())
        del detector
        os._exit(0 if answers == [expected] * 4 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert detector(image).scores.tolist() == expected
    """
    run_python(code, str(tmp_path / "a.cfg"), str(small_file()))


@pytest.mark.slow
def test_a_forked_process_waits_for_no_thread_of_a_reload(engine, small_file, tmp_path):
    """OpenVINO would compile with the threads of a model that the parent has destroyed."""
    (tmp_path / "a.cfg").write_text(SMALL)
    code = f"""
    engine = {engine!r}
    {FORKING}
    detector.reload(sys.argv[2])
    expected = detector(image).scores.tolist()
    if not (child := os.fork()):
        signal.alarm(60)
        answers = [detector(image).scores.tolist()]
        refused = []
        for act in (lambda: detector.reload(sys.argv[2]), make, lambda: detector([image] * 3)):
            try:
                act()
            except yolotf.ForkedProcessError as error:
                refused.append(str(error))
        answers.append(detector(image).scores.tolist())
        wanted = 3 if {engine!r} == "openvino" else 0
        os._exit(0 if answers == [expected] * 2 and len(refused) == wanted else 1)
    assert os.waitpid(child, 0)[1] == 0
    detector.reload(sys.argv[2])
    assert detector(image).scores.tolist() == expected
    """
    run_python(code, str(tmp_path / "a.cfg"), str(small_file()))


# Commands


def test_commands_take_an_engine(engine, small_file, tmp_path, capsys):
    (tmp_path / "a.cfg").write_text(SMALL)
    (tmp_path / "c.cfg").write_text(CLASSIFIER)
    picture = tmp_path / "a.png"
    Image.fromarray(images(1)[0]).save(picture)
    detect = ["detect", "--cfg", "a.cfg", "--weights", small_file(), "--json", "--score", 0.2]
    classify = ["classify", "--cfg", "c.cfg", "--weights", small_file(1, CLASSIFIER), "--json"]
    for command in (detect, classify):
        command[2] = str(tmp_path / command[2])
        command = [command[0], str(picture), *map(str, command[1:])]
        command[3] = str(tmp_path / command[3])
        answers = []
        for name in ("tensorflow", engine):
            assert main([*command, "--engine", name]) == 0
            answers.append(json.loads(capsys.readouterr().out))
        ours, theirs = (scores_of(answer) for answer in answers)
        assert len(ours) == len(theirs) > 0
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def scores_of(answer):
    return [row["score"] for row in answer.get("detections", answer.get("top"))]


def test_evaluation_takes_an_engine(engine, tmp_path, small_file, capsys):
    path = tmp_path / "a.png"
    Image.fromarray(images(1)[0]).save(path)
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (tmp_path / "list.txt").write_text(f"{path}\n")
    (tmp_path / "obj.data").write_text(f"classes=4\nvalid={tmp_path / 'list.txt'}\n")
    (tmp_path / "a.cfg").write_text(SMALL)
    command = ["eval", "--data", str(tmp_path / "obj.data"), "--cfg", str(tmp_path / "a.cfg")]
    command += ["--weights", str(small_file()), "--json", "--engine"]
    scores = []
    for name in ("tensorflow", engine):
        assert main([*command, name]) == 0
        scores.append(json.loads(capsys.readouterr().out))
    assert scores[1]["engine"] == engine
    assert scores[0]["classes"] == scores[1]["classes"]


def test_doctor_lists_the_engines(monkeypatch):
    monkeypatch.setattr(
        environment_report.importlib.util,
        "find_spec",
        lambda name: None if name == "openvino" else name,
    )
    monkeypatch.setattr(
        environment_report, "_distributions", lambda name: [{"tensorflow": "numpy"}.get(name)]
    )
    monkeypatch.setattr(environment_report, "_version", lambda name: "1.2.3" if name else None)
    assert environment_report._engines() == {
        "tensorflow": "1.2.3",
        "openvino": 'missing; pip install "yolotf[openvino]"',
        "onnxruntime": "unknown; no installed distribution provides it",
    }
