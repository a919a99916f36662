"""The models of docs/triton.md in a Triton server on this machine; see `make test-triton`."""

import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import yolotf
from support import helpers, pages
from support.networks_of_sections import SMALL
from support.onnx_engines import tame_file

PYTHON = os.environ.get("YOLOTF_TRITON")
BACKENDS = os.environ.get("YOLOTF_TRITON_BACKENDS")
EXAMPLE = Path(__file__).parents[1] / "examples/triton"
PAGE = Path(__file__).parents[1] / "docs/triton.md"
pytestmark = pytest.mark.skipif(PYTHON is None, reason="needs the environment of make test-triton")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The example, with a small network, and the server's files as its wheel brings them."""
    path = tmp_path_factory.mktemp("triton")
    (path / "a.cfg").write_text(SMALL)
    helpers.write_weights(path / "a.weights", yolotf.parse_cfg(SMALL), seed=1)
    shutil.copytree(EXAMPLE, path / "models")
    config = path / "models/detector/config.pbtxt"
    text = config.read_text().replace('"yolov4-tiny"', '"a.cfg"').replace('"coco.names"', '""')
    config.write_text(text.replace("yolov4-tiny.weights", "a.weights"))
    install_server(path)
    return path


def install_server(path):
    """Puts the server of pytriton's wheel, with its backends, into a folder."""
    where = "import pytriton, sys; print(pytriton.__path__[0], *sys.version_info[:2])"
    command = [PYTHON, "-c", where]
    root, major, minor = subprocess.check_output(command, text=True).split()[-3:]
    server = Path(root, "tritonserver")
    shutil.copytree(server / "backends", path / "backends")
    stub = server / f"python_backend_stubs/{major}.{minor}/triton_python_backend_stub"
    shutil.copy(stub, path / "backends/python")
    (path / "tritonserver").symlink_to(server / "bin/tritonserver")
    (path / "libs").symlink_to(Path(root).parent / "nvidia_pytriton.libs")


@pytest.fixture(scope="module")
def server(folder):
    """The address of the model."""
    with running(folder, "detector") as address:
        yield f"{address}/v2/models/detector"


@contextmanager
def running(folder, *models):
    """Runs a server for the block; yields its address when it has loaded `models`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "PATH": f"{Path(PYTHON).parent}:{os.environ['PATH']}",
        "LD_LIBRARY_PATH": str(folder / "libs"),
    }
    options = ["--http-address", "127.0.0.1", "--http-port", str(port)]
    options += ["--allow-grpc", "false", "--allow-metrics", "false"]
    options += ["--model-control-mode", "explicit"]
    options += [option for model in models for option in ("--load-model", model)]
    command = ["./tritonserver", "--model-repository", "models", *options]
    command += ["--backend-directory", str(folder / "backends")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 120
        while not all(ready(f"{address}/v2/models/{model}/ready") for model in models):
            text = (folder / "log").read_text(errors="replace")
            assert process.poll() is None, text
            assert time.monotonic() < deadline, text
            time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait(60)


def ready(address):
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, ConnectionError):
        return False


def ask(address, images):
    """Outputs by name, by the protocol of KServe."""
    given = {"name": "images", "shape": images.shape, "datatype": "UINT8"}
    body = json.dumps({"inputs": [{**given, "data": images.ravel().tolist()}]}).encode()
    request = urllib.request.Request(f"{address}/infer", body)
    with urllib.request.urlopen(request, timeout=60) as answer:
        outputs = json.load(answer)["outputs"]
    return {output["name"]: np.reshape(output["data"], output["shape"]) for output in outputs}


def assert_detections(answer, expected):
    assert answer["counts"].ravel().tolist() == [len(detections) for detections in expected]
    for place, detections in enumerate(expected):
        rows = slice(len(detections))
        np.testing.assert_allclose(
            answer["boxes"][place, rows], detections.xyxy, rtol=1e-4, atol=1e-3
        )
        np.testing.assert_allclose(answer["scores"][place, rows], detections.scores, rtol=1e-4)
        np.testing.assert_array_equal(answer["classes"][place, rows], detections.classes)


def test_triton_detects_as_the_detector(folder, server):
    detector = yolotf.Detector(folder / "a.cfg", folder / "a.weights")
    random = np.random.default_rng(3)
    batches = [
        random.integers(0, 256, (count, 40, 50, 3)).astype(np.uint8) for count in (1, 3, 2, 8)
    ]
    expected = [detector(batch) for batch in batches]
    assert max(len(detections) for batch in expected for detections in batch) > 1
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda batch: ask(server, batch), batches))
    for answer, detections in zip(answers, expected, strict=True):
        assert_detections(answer, detections)


def load(address):
    """Loads the model again, by Triton's model control."""
    where = address.replace("/v2/models/", "/v2/repository/models/")
    request = urllib.request.Request(f"{where}/load", b"{}")
    with urllib.request.urlopen(request, timeout=120) as answer:
        assert answer.status == 200


def test_triton_loads_new_weights(folder, server):
    """Requests are answered meanwhile; a file that does not match leaves the old weights."""
    network = yolotf.parse_cfg(SMALL)
    images = np.random.default_rng(4).integers(0, 256, (2, 40, 50, 3)).astype(np.uint8)
    helpers.write_weights(folder / "b.weights", network, seed=2)
    (folder / "short.weights").write_bytes((folder / "a.weights").read_bytes()[:-4])
    before = yolotf.Detector(network, folder / "a.weights")(images)
    after = yolotf.Detector(network, folder / "b.weights")(images)
    counts = [[len(detections) for detections in answers] for answers in (before, after)]
    assert counts[0] != counts[1]
    assert_detections(ask(server, images), before)

    (folder / "short.weights").replace(folder / "a.weights")
    with pytest.raises(urllib.error.HTTPError) as refused:
        load(server)
    assert "a.weights" in json.load(refused.value)["error"]
    assert_detections(ask(server, images), before)

    (folder / "b.weights").replace(folder / "a.weights")
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(load, server)
        meanwhile = []
        while not loading.done():
            meanwhile.append(ask(server, images)["counts"].ravel().tolist())
        loading.result()
    assert_detections(ask(server, images), after)
    assert meanwhile[0] == counts[0]
    assert all(answer_counts in counts for answer_counts in meanwhile)


def test_the_client_of_the_page_prints_the_boxes(official_tiny, tmp_path):
    shutil.copytree(EXAMPLE, tmp_path / "models")
    for file in (official_tiny.weights, official_tiny.names, official_tiny.bus):
        shutil.copy(file, tmp_path / file.name)
    install_server(tmp_path)
    (block,) = (
        block for block in pages.blocks(PAGE.read_text("utf-8")) if block.title == "client.py"
    )
    with running(tmp_path, "detector") as address:
        content = block.content.replace("localhost:8000", address.removeprefix("http://"))
        (tmp_path / "client.py").write_text(content)
        printed = subprocess.check_output([PYTHON, "client.py"], cwd=tmp_path, text=True)
    boxes = np.array([float(number) for number in re.findall(r"-?\d+\.", printed)]).reshape(-1, 4)
    expected = yolotf.Detector("yolov4-tiny", official_tiny.weights)(official_tiny.bus)
    np.testing.assert_allclose(boxes, expected.xyxy, atol=1)


def ask_floats(address, name, images):
    """Outputs by name. Numbers go as bytes both ways, as tritonclient sends them."""
    with urllib.request.urlopen(f"{address}/v2/models/{name}") as answer:
        outputs = [output["name"] for output in json.load(answer)["outputs"]]
    size = {"binary_data_size": images.nbytes}
    given = {"name": "images", "shape": images.shape, "datatype": "FP32", "parameters": size}
    wanted = [{"name": output, "parameters": {"binary_data": True}} for output in outputs]
    head = json.dumps({"inputs": [given], "outputs": wanted}).encode()
    headers = {
        "Inference-Header-Content-Length": str(len(head)),
        "Content-Type": "application/octet-stream",
    }
    request = urllib.request.Request(
        f"{address}/v2/models/{name}/infer", head + images.tobytes(), headers
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        start = int(answer.headers["Inference-Header-Content-Length"])
        content = answer.read()
    arrays = {}
    for output in json.loads(content[:start])["outputs"]:
        end = start + output["parameters"]["binary_data_size"]
        dtype = {"FP32": np.float32, "INT64": np.int64}[output["datatype"]]
        arrays[output["name"]] = np.frombuffer(content[start:end], dtype).reshape(output["shape"])
        start = end
    return arrays


@pytest.fixture(scope="module")
def onnx_models(official_tiny, tmp_path_factory):
    """A folder with a server, and ONNX files with and without the configs of the page."""
    if BACKENDS is None or not Path(BACKENDS, "onnxruntime").is_dir():
        pytest.skip("needs TRITON_BACKENDS, a folder with Triton's onnxruntime backend")
    path = tmp_path_factory.mktemp("onnx")
    install_server(path)
    (path / "backends/onnxruntime").symlink_to(Path(BACKENDS, "onnxruntime").resolve())
    texts = [
        block.content
        for block in pages.blocks(PAGE.read_text("utf-8"))
        if block.language == "text" and "onnxruntime_onnx" in block.content
    ]
    whole = path / "yolov4.weights"
    whole.write_bytes(tame_file(yolotf.network("yolov4", classes=3, size=(64, 96))))
    for name, options in {
        "yolov4-tiny": {"decode": True},
        "yolov4-tiny-detections": {"suppress": True},
        "without_a_config": {"decode": True},
        "raw": {"layout": "NHWC"},
        "yolov4": {},
    }.items():
        version = path / "models" / name / "1"
        version.mkdir(parents=True)
        network, weights = "yolov4-tiny", official_tiny.weights
        if name == "yolov4":
            network, weights = yolotf.network("yolov4", classes=3, size=(64, 96)), whole
        yolotf.convert(weights, network, version / "model.onnx", **options)
        for text in texts:
            if f'name: "{name}"' in text:
                (version.parent / "config.pbtxt").write_text(text)
                break
    return path


def test_triton_runs_onnx_files_as_onnxruntime_does(onnx_models, official_tiny):
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    names = [folder.name for folder in (onnx_models / "models").iterdir()]
    assert len(names) == 5
    with running(onnx_models, *names) as address, ThreadPoolExecutor(4) as pool:
        for name in names:
            session = onnxruntime.InferenceSession(onnx_models / f"models/{name}/1/model.onnx")
            (given,) = session.get_inputs()
            batches = [images_of(official_tiny, given.shape[1:], count) for count in (1, 2, 4)]
            outputs = [output.name for output in session.get_outputs()]
            answers = pool.map(lambda batch, name=name: ask_floats(address, name, batch), batches)
            for batch, arrays in zip(batches, answers, strict=True):
                for output, values in zip(
                    outputs, session.run(None, {"images": batch}), strict=True
                ):
                    assert values.size > 0
                    np.testing.assert_allclose(arrays[output], values, rtol=1e-4, atol=1e-4)


def images_of(official_tiny, shape, count):
    """Photographs as the network takes them, turned for each further one."""
    rows, columns = shape[1:] if shape[0] == 3 else shape[:2]
    with Image.open(official_tiny.bus) as photograph:
        image = np.asarray(photograph.convert("RGB").resize((columns, rows)), np.float32) / 255
    images = np.stack([image, image[:, ::-1]] * 2)[:count]
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2) if shape[0] == 3 else images)
