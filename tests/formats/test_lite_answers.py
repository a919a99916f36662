"""Quantized `.tflite` files answer as float does, or are refused; any batch can be asked for."""

import json
import os
import subprocess
import sys
import zipfile

import flatbuffers
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.lite.python import schema_py_generated as schema
from test_convert import DETECTOR, assert_close, pictures_for, reference, write_weights

from support import messages, numpy_loader
from support.cfgs import conv, net, normalized, route, section
from yolotf import errors, parse_cfg
from yolotf.formats import lite_process, tflite
from yolotf.formats.convert import convert

pytestmark = pytest.mark.filterwarnings(r"ignore:\s*Warning. tf.lite.Interpreter:UserWarning")

MISH = net(32) + normalized(8, 3, "mish", stride=2) + 3 * normalized(16, 3, "mish") + conv(6)
UPSAMPLED = (
    net(32)
    + normalized(8, 3, "mish", stride=2)
    + normalized(8, 3, stride=2)
    + section("upsample", stride=2)
    + route(-1, 0)
    + conv(6)
)


@pytest.fixture
def photographs(tmp_path):
    random = np.random.default_rng(2)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(4):
        pixels = random.integers(0, 256, (32, 32, 4), np.uint8)
        pixels[..., 3] |= 128
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_mish_in_int8_is_that_of_float(channels, tmp_path, photographs):
    text = MISH.replace("channels=3", f"channels={channels}")
    output = tmp_path / "m.tflite"
    convert(write_weights(tmp_path, text), text, output, int8=photographs)
    runner = tf.lite.Interpreter(str(output)).get_signature_runner("serving_default")
    picture = pictures_for(text, batch=1)
    ours = runner(images=picture)["output_0"]
    (theirs,) = reference(text)[1](picture)
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.95


@pytest.mark.slow
def test_converted_file_with_other_outputs_is_refused(tmp_path, photographs, monkeypatch):
    weights, output = write_weights(tmp_path, MISH), tmp_path / "m.tflite"
    monkeypatch.setattr(tflite, "MIN_CORRELATION", 1.0)
    with messages.refused(errors.YolotfError, hide=r"(?<=output_0 )[\d.]+") as caught:
        convert(weights, MISH, output, int8=photographs)
    assert 0.9 < caught.value.correlations["output_0"] < 1
    assert not output.exists()
    convert(weights, MISH, output, int8=photographs, allow_inaccurate=True)
    assert output.exists()


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ([1, 2, 3], [2, 4, 6], 1),
        ([3, 2, 1], [2, 4, 6], -1),
        ([5, 5, 5], [5, 5, 5], 1),
        ([5, 5, 5], [2, 4, 6], 0),
        ([np.nan, 2, 3], [2, 4, 6], 0),
    ],
)
def test_correlation(ours, theirs, expected):
    assert tflite._correlation([np.array(ours)], [np.array(theirs)]) == pytest.approx(expected)


WIDE = (
    net(32)
    + normalized(8, 3, "mish", stride=2)
    + normalized(16, 3, "mish")
    + normalized(16, 3, "mish")
    + conv(6)
)


def wide_weights(folder, factor):
    """A file for WIDE whose layers get numbers as large as those of real networks."""
    content = numpy_loader.random_file(WIDE)
    arrays = {
        array: values * factor if array.role == "gamma" else values
        for array, values in numpy_loader.arrays(WIDE, content).items()
    }
    path = folder / "wide.weights"
    path.write_bytes(content[:20] + b"".join(values.tobytes() for values in arrays.values()))
    return path


@pytest.mark.slow
def test_mish_as_the_converter_writes_it_is_refused_and_ours_is_not(
    tmp_path, photographs, monkeypatch
):
    weights = wide_weights(tmp_path, np.float32(2))
    convert(weights, WIDE, tmp_path / "ours.tflite", int8=photographs)
    monkeypatch.setattr(tflite, "_use_convertible_operations", lambda model: None)
    with messages.refused(errors.YolotfError, hide=r"(?<=output_0 )[\d.]+") as caught:
        convert(weights, WIDE, tmp_path / "theirs.tflite", int8=photographs)
    assert caught.value.correlations["output_0"] < 0.5


@pytest.mark.slow
def test_weights_too_large_for_float16_are_refused(tmp_path):
    weights = wide_weights(tmp_path, np.float32(1e6))
    output = tmp_path / "half.tflite"
    with messages.refused(errors.YolotfError, hide=r"(?<=output_0 )[\d.]+") as caught:
        convert(weights, WIDE, output, float16=True)
    assert caught.value.correlations["output_0"] < 0.9
    assert not output.exists()
    convert(weights, WIDE, output)
    convert(weights, WIDE, output, float16=True, allow_inaccurate=True)


# Inputs and outputs


@pytest.mark.slow
def test_int8_only_has_no_other_type(tmp_path, photographs):
    output = tmp_path / "m.tflite"
    convert(write_weights(tmp_path, MISH), MISH, output, int8=photographs, int8_only=True)
    interpreter = tf.lite.Interpreter(str(output))
    kinds = {tensor["dtype"] for tensor in interpreter.get_tensor_details()}
    assert kinds <= {np.int8, np.int32}, "int32: biases and shapes"
    (image,), (answer,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert (image["dtype"], answer["dtype"]) == (np.int8, np.int8)
    np.testing.assert_allclose(image["quantization"], (1 / 255, -128), rtol=1e-4)
    pictures = pictures_for(MISH, batch=1)
    interpreter.allocate_tensors()
    quantized = np.round(pictures * 255 - 128).astype(np.int8)
    interpreter.set_tensor(image["index"], quantized)
    interpreter.invoke()
    scale, zero = answer["quantization"]
    ours = (interpreter.get_tensor(answer["index"]).astype(np.float32) - zero) * scale
    (theirs,) = reference(MISH)[1](pictures)
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.95


def test_int8_only_needs_images(tmp_path):
    with messages.refused(errors.YolotfError):
        convert("a.weights", MISH, tmp_path / "m.tflite", int8_only=True)


CLASSIFIER = (
    net(32)
    + normalized(8, 3, stride=2)
    + "[reorg]\nstride=2\n"
    + normalized(8, 3, dilation=2)
    + "[avgpool]\n[connected]\noutput=6\nactivation=leaky\n[softmax]\ngroups=2\n"
)


@pytest.mark.slow
def test_interpreter_can_resize_the_batch(tmp_path):
    output = tmp_path / "m.tflite"
    for text in (UPSAMPLED, CLASSIFIER):
        convert(write_weights(tmp_path, text), text, output)
        interpreter = tf.lite.Interpreter(str(output))
        image = interpreter.get_input_details()[0]
        assert image["shape"].tolist() == [1, 32, 32, 3]
        pictures = pictures_for(text, batch=2)
        interpreter.resize_tensor_input(image["index"], pictures.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(image["index"], pictures)
        interpreter.invoke()
        answer = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        assert_close([answer], reference(text)[1](pictures))


@pytest.mark.slow
def test_interpreter_can_resize_the_batch_of_decoded_boxes(tmp_path):
    weights = write_weights(tmp_path, DETECTOR)
    convert(weights, DETECTOR, tmp_path / "m.tflite", decode=True)
    runner = tf.lite.Interpreter(str(tmp_path / "m.tflite")).get_signature_runner()
    pictures = pictures_for(DETECTOR, batch=2)
    answers = [runner(images=picture[None]) for picture in pictures]
    for name, values in runner(images=pictures).items():
        expected = np.concatenate([answer[name] for answer in answers])
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("reverse_outputs", [False, True])
def test_litert_has_outputs_in_order_and_by_name(reverse_outputs, tmp_path):
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="needs ai-edge-litert")
    from ai_edge_litert.compiled_model import CompiledModel

    output = tmp_path / "m.tflite"
    convert(write_weights(tmp_path, DETECTOR), DETECTOR, output, reverse_outputs=reverse_outputs)
    pictures = pictures_for(DETECTOR, batch=1)
    names, expected = ["conv_8", "conv_13"], reference(DETECTOR)[1](pictures)
    if reverse_outputs:
        names, expected = names[::-1], expected[::-1]
    interpreter = litert.Interpreter(str(output))
    assert [tensor["name"] for tensor in interpreter.get_input_details()] == ["images"]
    assert [tensor["name"] for tensor in interpreter.get_output_details()] == names
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], pictures)
    interpreter.invoke()
    details = interpreter.get_output_details()
    assert_close([interpreter.get_tensor(tensor["index"]) for tensor in details], expected)
    compiled = CompiledModel.from_file(str(output))
    inputs, outputs = compiled.create_input_buffers(0), compiled.create_output_buffers(0)
    inputs[0].write(pictures)
    compiled.run_by_index(0, inputs, outputs)
    pairs = zip(outputs, expected, strict=True)
    assert_close(
        [file.read(like.size, np.float32).reshape(like.shape) for file, like in pairs], expected
    )


@pytest.mark.slow
def test_openvino_reads_the_tflite_file(tmp_path):
    openvino = pytest.importorskip("openvino", reason="needs openvino")
    convert(write_weights(tmp_path, DETECTOR), DETECTOR, tmp_path / "m.tflite")
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(tmp_path / "m.tflite", "CPU", options)
    assert [output.any_name for output in compiled.outputs] == ["conv_8", "conv_13"]
    pictures = pictures_for(DETECTOR, batch=2)
    assert_close(list(compiled(pictures).values()), reference(DETECTOR)[1](pictures))


@pytest.mark.slow
def test_opencv_reads_the_tflite_file(tmp_path):
    cv2 = pytest.importorskip("cv2", reason="needs opencv-python-headless")
    text = UPSAMPLED.replace("mish", "leaky")
    convert(write_weights(tmp_path, text), text, tmp_path / "m.tflite")
    network = cv2.dnn.readNetFromTFLite(str(tmp_path / "m.tflite"))
    pictures = pictures_for(text, batch=1)
    network.setInput(pictures.transpose(0, 3, 1, 2))
    (expected,) = reference(text)[1](pictures)
    assert_close([network.forward().transpose(0, 2, 3, 1)], [expected])


# What goes with it


DESCRIPTIONS, TENSOR_AXIS_LABELS = 1, 2
"""AssociatedFileType of metadata_schema.fbs."""


def listed_files(metadata):
    """Name, description and type of each associated file, read as metadata_schema.fbs says."""

    def text(table, slot):
        return table.String(table.Pos + table.Offset(4 + 2 * slot)).decode()

    start = flatbuffers.encode.Get(flatbuffers.packer.uoffset, metadata, 0)
    root = flatbuffers.table.Table(metadata, start)
    assert text(root, 0) == "cfg"
    files = root.Offset(4 + 2 * 6)
    listed = []
    for place in range(root.VectorLen(files)):
        file = flatbuffers.table.Table(metadata, root.Indirect(root.Vector(files) + 4 * place))
        kind = file.Get(flatbuffers.number_types.Int8Flags, file.Pos + file.Offset(4 + 2 * 2))
        listed.append((text(file, 0), text(file, 1), kind))
    return listed


SUPPORT = os.environ.get("YOLOTF_LITE_SUPPORT")
SHOW = """
import json, sys
try:
    from tensorflow_lite_support.metadata.python import metadata
except ImportError as error:
    print(error)
    sys.exit(77)
shown = metadata.MetadataDisplayer.with_model_file(sys.argv[1])
files = shown.get_packed_associated_file_list()
buffers = [shown.get_associated_file_buffer(name).decode() for name in files]
print(json.dumps([json.loads(shown.get_metadata_json()), dict(zip(files, buffers))]))
"""


@pytest.mark.skipif(SUPPORT is None, reason="needs tflite-support of make test-readers")
def test_tflite_support_shows_the_metadata(tmp_path):
    output = tmp_path / "m.tflite"
    convert(write_weights(tmp_path, DETECTOR), DETECTOR, output, class_names=["a cat", "dog"])
    command = [sys.executable, "-c", SHOW, str(output)]
    environment = {**os.environ, "PYTHONPATH": SUPPORT}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode == 77:
        pytest.skip(f"tflite-support: {done.stdout.strip()}")
    assert done.returncode == 0, done.stderr
    shown, files = json.loads(done.stdout)
    assert [(file["name"], file["type"]) for file in shown["associated_files"]] == [
        ("model.cfg", "DESCRIPTIONS"),
        ("classes.names", "TENSOR_AXIS_LABELS"),
    ]
    assert files["classes.names"] == "a cat\ndog\n"
    assert parse_cfg(files["model.cfg"]).with_classes(2).to_cfg() == parse_cfg(DETECTOR).to_cfg()


@pytest.mark.slow
def test_the_cfg_and_class_names_are_in_the_file(tmp_path):
    output = tmp_path / "m.tflite"
    weights = write_weights(tmp_path, DETECTOR)
    convert(weights, DETECTOR, output, class_names=["a cat", "dog"])
    with zipfile.ZipFile(output) as archive:
        assert archive.read("classes.names") == b"a cat\ndog\n"
        text = archive.read("model.cfg").decode()
    assert parse_cfg(text).with_classes(2).to_cfg() == parse_cfg(DETECTOR).to_cfg()
    model = schema.Model.GetRootAs(output.read_bytes())
    entries = [model.Metadata(number) for number in range(model.MetadataLength())]
    (entry,) = (candidate for candidate in entries if candidate.Name() == b"TFLITE_METADATA")
    metadata = model.Buffers(entry.Buffer()).DataAsNumpy().tobytes()
    assert metadata[4:8] == b"M001"
    assert listed_files(metadata) == [
        ("model.cfg", "the network as a Darknet cfg", DESCRIPTIONS),
        ("classes.names", "names of the classes, one a line", TENSOR_AXIS_LABELS),
    ]
    convert(weights, DETECTOR, output)
    assert zipfile.ZipFile(output).namelist() == ["model.cfg"]
    with messages.refused(errors.YolotfError):
        convert(weights, DETECTOR, output, class_names=list("abc"))


# The converter's process


@pytest.mark.slow
@pytest.mark.usefixtures("converter_apart")
def test_converter_process_writes_the_same_file(tmp_path, photographs, monkeypatch):
    weights = write_weights(tmp_path, MISH)
    stages = []
    done = convert(
        weights, MISH, tmp_path / "m", int8=(), progress=lambda *call: stages.append(call)
    )
    assert done.format == "SavedModel"
    output = tmp_path / "m.tflite"
    convert(weights, MISH, output, int8=photographs, progress=lambda *call: stages.append(call))
    assert ("calibrating", 4, 4) in stages
    apart = output.read_bytes()
    monkeypatch.setattr(lite_process, "run", lite_process.convert)
    convert(weights, MISH, output, int8=photographs)
    assert len(apart) == output.stat().st_size


@pytest.mark.slow
@pytest.mark.usefixtures("converter_apart")
@pytest.mark.parametrize(
    "program",
    [
        "import os; os.kill(os.getpid(), 9)",
        "import os; os.abort()",
        "import sys; sys.exit('out of luck')",
    ],
)
def test_a_crash_of_the_converter_is_one_sentence(program, tmp_path, monkeypatch):
    output = tmp_path / "m.tflite"
    output.write_text("old")
    start = subprocess.Popen
    command = [sys.executable, "-c", program]
    monkeypatch.setattr(
        lite_process.subprocess, "Popen", lambda given, **options: start(command, **options)
    )
    with messages.refused(errors.TensorFlowError):
        convert(write_weights(tmp_path, MISH), MISH, output)
    assert output.read_text() == "old"
