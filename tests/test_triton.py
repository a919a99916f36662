"""examples/triton in a Triton server on this machine; see `make test-triton`."""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import yolotf
from support import helpers
from support.networks_of_sections import SMALL

PYTHON = os.environ.get("YOLOTF_TRITON")
EXAMPLE = Path(__file__).parents[1] / "examples/triton"
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
    where = "import pytriton, sys; print(pytriton.__path__[0], *sys.version_info[:2])"
    command = [PYTHON, "-c", where]
    root, major, minor = subprocess.check_output(command, text=True).split()[-3:]
    server = Path(root, "tritonserver")
    shutil.copytree(server / "backends", path / "backends")
    stub = server / f"python_backend_stubs/{major}.{minor}/triton_python_backend_stub"
    shutil.copy(stub, path / "backends/python")
    (path / "tritonserver").symlink_to(server / "bin/tritonserver")
    (path / "libs").symlink_to(Path(root).parent / "nvidia_pytriton.libs")
    return path


@pytest.fixture(scope="module")
def server(folder):
    """The address of the model."""
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
    options += ["--model-control-mode", "explicit", "--load-model", "detector"]
    command = ["./tritonserver", "--model-repository", "models", *options]
    command += ["--backend-directory", str(folder / "backends")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        address = f"http://127.0.0.1:{port}/v2/models/detector"
        deadline = time.monotonic() + 120
        while not ready(f"{address}/ready"):
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
