"""The servers of docs/servers.md answer as a Detector does.

FastAPI in this process; the others, whose packages are large, by `make test-servers`.
"""

import base64
import json
import os
import re
import shutil
import signal
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

PAGE = Path(__file__).parents[1] / "docs/servers.md"
PYTHON = os.environ.get("YOLOTF_SERVERS")
with_servers = pytest.mark.skipif(
    PYTHON is None, reason="needs the environment of make test-servers"
)


def recipe(title):
    """A file of the page."""
    (content,) = (block.content for block in pages.blocks(PAGE.read_text()) if block.title == title)
    return content


@pytest.fixture(scope="module")
def detector(official_tiny):
    return yolotf.Detector("yolov4-tiny", official_tiny.weights, class_names=official_tiny.names)


@pytest.fixture(scope="module")
def images(official_tiny):
    """Six different arrays of one size, with something to find in each."""
    with Image.open(official_tiny.bus) as photograph:
        whole = np.asarray(photograph.convert("RGB").resize((160, 200)))
    return [
        np.ascontiguousarray(image)
        for image in (whole, whole[:, ::-1], *(np.roll(whole, by, 0) for by in (-9, -18, 9, 18)))
    ]


def assert_found(answer, detections):
    """`answer` is a `Detections.to_dict()` that came as JSON."""
    wanted = detections.to_dict()["detections"]
    rows = answer["detections"]
    assert [(row["class"], row["name"]) for row in rows] == [
        (row["class"], row["name"]) for row in wanted
    ]
    assert len(rows) > 0
    for key, atol in (("score", 1e-4), ("xyxy", 0.05)):
        here, there = ([row[key] for row in some] for some in (rows, wanted))
        np.testing.assert_allclose(here, there, atol=atol)


# Starlette's own, of its test client.
@pytest.mark.filterwarnings("ignore:Using `httpx` with")
def test_fastapi_answers_what_a_detector_finds(official_tiny, detector, tmp_path):
    pytest.importorskip("fastapi", reason="needs fastapi")
    pytest.importorskip("httpx", reason="needs httpx")
    from fastapi.testclient import TestClient

    content = recipe("web.py").replace("yolov4-tiny.weights", str(official_tiny.weights))
    content = content.replace("coco.names", str(official_tiny.names))
    module = {"__name__": "web"}
    exec(compile(content, "web.py", "exec"), module)
    with TestClient(module["app"]) as client:

        def ask(image):
            answer = client.post("/detect", content=image.read_bytes())
            assert answer.status_code == 200
            return answer.json()

        wanted = {
            path: detector(path).to_dict() for path in (official_tiny.bus, official_tiny.zidane)
        }
        with ThreadPoolExecutor(4) as pool:
            paths = [*wanted] * 4
            for path, answer in zip(paths, pool.map(ask, paths), strict=True):
                assert answer == wanted[path]
        refused = client.post("/detect", content=b"no image")
        assert (refused.status_code, "not an image" in refused.json()["detail"]) == (400, True)

        other = tmp_path / "other.weights"
        helpers.write_weights(other, yolotf.network("yolov4-tiny"), seed=1)
        broken = tmp_path / "broken.weights"
        broken.write_bytes(official_tiny.weights.read_bytes()[:-4])
        with pytest.raises(yolotf.WeightsMismatch):
            module["detector"].reload(broken)
        assert ask(official_tiny.bus) == wanted[official_tiny.bus]
        module["detector"].reload(other)
        assert ask(official_tiny.bus) != wanted[official_tiny.bus]
        module["detector"].reload(official_tiny.weights)
        assert ask(official_tiny.bus) == wanted[official_tiny.bus]


# What make test-servers runs.


@pytest.fixture
def folder(official_tiny, tmp_path):
    """The folder of `yolotf demo`, as far as the recipes read it."""
    for name in ("weights", "names", "bus", "zidane"):
        file = getattr(official_tiny, name)
        shutil.copyfile(file, tmp_path / file.name)  # MLflow takes no links
    return tmp_path


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def environment(folder):
    return {
        **os.environ,
        "PATH": f"{Path(PYTHON).parent}:{os.environ['PATH']}",
        "BENTOML_DO_NOT_TRACK": "True",
        "BENTOML_HOME": str(folder / "bentoml"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


@contextmanager
def serving(folder, command, address):
    """Runs a command of the servers' environment until `address` answers, and then the block."""
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment(folder),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 180
        while not answers(address):
            assert process.poll() is None, log.read_text(errors="replace")
            assert time.monotonic() < deadline, log.read_text(errors="replace")
            time.sleep(0.3)
        yield log
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(20)


def answers(address):
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def post(address, content, kind="application/json"):
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    request = urllib.request.Request(address, body, {"Content-Type": kind})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


def at_once(ask, requests):
    """The answers to requests that are sent at the same time, so that a server may join them."""
    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(ask, requests))


@with_servers
def test_uvicorn_with_two_workers(folder, detector):
    (folder / "web.py").write_text(recipe("web.py"))
    port = free_port()
    command = ["uvicorn", "web:app", "--workers", "2", "--port", str(port)]
    with serving(folder, command, f"http://127.0.0.1:{port}/docs"):
        bodies = [(folder / name).read_bytes() for name in ("bus.jpg", "zidane.jpg")] * 3
        answers = at_once(lambda body: post(f"http://127.0.0.1:{port}/detect", body), bodies)
        for body, answer in zip(bodies, answers, strict=True):
            assert_found(answer, detector(body))


LIST = "\n    def batch(self, images):\n        return images\n\n    def encode_response"


@with_servers
@pytest.mark.parametrize("as_list", [False, True], ids=["array", "list"])
def test_litserve(as_list, folder, detector, images):
    port = free_port()
    content = recipe("lit.py").replace("18321", str(port))
    content = content.replace(
        '"yolov4-tiny.weights"', '"yolov4-tiny.weights", class_names="coco.names"'
    )
    if as_list:
        content = content.replace("\n    def encode_response", LIST)
    content = content.replace("batch_timeout=0.01", "batch_timeout=0.3")
    content = content.replace(
        "        return self.detector(images)",
        "        print(len(images), 'joined', flush=True)\n        return self.detector(images)",
    )
    (folder / "lit.py").write_text(content)
    sent = [images[0], *images]
    if as_list:
        sent[2] = np.ascontiguousarray(sent[2][:150])
    address = f"http://127.0.0.1:{port}"
    with serving(folder, ["python", "lit.py"], f"{address}/health") as log:
        answers = [post(f"{address}/predict", {"image": images[0].tolist()})]
        answers += at_once(
            lambda image: post(f"{address}/predict", {"image": image.tolist()}), sent[1:]
        )
        joined = [int(count) for count in re.findall(r"(\d+) joined", log.read_text())]
    assert sum(joined) == len(sent)
    assert max(joined) > 1
    for image, answer in zip(sent, answers, strict=True):
        assert_found(answer, detector(image))


def bentoml(port):
    """The command that serves the recipe in bento.py."""
    address = ["--host", "127.0.0.1", "--port", str(port)]
    return ["bentoml", "serve", "bento:DetectorService", *address]


@with_servers
def test_bentoml(folder, detector, images):
    (folder / "bento.py").write_text(recipe("bento.py"))
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with serving(folder, bentoml(port), f"{address}/readyz"):

        def ask(batch):
            return post(f"{address}/detect", {"images": [image.tolist() for image in batch]})

        batches = [images[:1], images[1:4], images[4:], images[:2]]
        for batch, answers in zip(
            batches, [ask(batches[0]), *at_once(ask, batches[1:])], strict=True
        ):
            for image, answer in zip(batch, answers, strict=True):
                assert_found(answer, detector(image))
        head = '--x\r\nContent-Disposition: form-data; name="image"; filename="bus.jpg"\r\n\r\n'
        body = head.encode() + (folder / "bus.jpg").read_bytes() + b"\r\n--x--\r\n"
        answer = post(f"{address}/detect_file", body, "multipart/form-data; boundary=x")
        assert_found(answer, detector(folder / "bus.jpg"))


@with_servers
def test_bentoml_without_a_type_hands_over_int64(folder, images):
    content = recipe("bento.py").replace('Annotated[np.ndarray, DType("uint8")]', "np.ndarray")
    (folder / "bento.py").write_text(content)
    port = free_port()
    with serving(folder, bentoml(port), f"http://127.0.0.1:{port}/readyz") as log:
        with pytest.raises(urllib.error.HTTPError, match="500"):
            post(f"http://127.0.0.1:{port}/detect", {"images": [images[0].tolist()]})
        assert "an array of int64 is not an image" in log.read_text()


@with_servers
@pytest.mark.parametrize("workers", [1, 2])
def test_kserve(workers, folder, detector):
    (folder / "kserve_model.py").write_text(recipe("kserve_model.py"))
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = ["python", "kserve_model.py", "--http_port", str(port), "--enable_grpc", "false"]
    command += ["--workers", str(workers)]
    with serving(folder, command, f"{address}/v2/health/ready"):

        def ask(names):
            files = [(folder / name).read_bytes() for name in names]
            instances = [{"b64": base64.b64encode(file).decode()} for file in files]
            return post(f"{address}/v1/models/detector:predict", {"instances": instances})

        batches = [["bus.jpg"], ["zidane.jpg", "bus.jpg"], ["zidane.jpg"], ["bus.jpg"] * 3]
        for names, answer in zip(batches, at_once(ask, batches), strict=True):
            for name, prediction in zip(names, answer["predictions"], strict=True):
                assert_found(prediction, detector(folder / name))


READ = """
import json, sys, mlflow, numpy
model = mlflow.pyfunc.load_model(sys.argv[1])
images = numpy.load("images.npy")
with open("answers.json", "w") as file:
    json.dump([model.predict(images[:1]), model.predict(images)], file)
print(mlflow.pyfunc.get_model_dependencies(sys.argv[1]))
"""


@with_servers
def test_mlflow(folder, detector, images):
    (folder / "mlflow_model.py").write_text(recipe("mlflow_model.py"))
    (folder / "read.py").write_text(READ)
    np.save(folder / "images.npy", np.stack(images))
    run = {"cwd": folder, "text": True, "stdout": subprocess.PIPE, "check": True}
    run["env"] = environment(folder)
    logged = subprocess.run([PYTHON, "mlflow_model.py"], **run).stdout.split()[-1]
    assert logged.startswith("models:/m-")
    requirements = Path(subprocess.run([PYTHON, "read.py", logged], **run).stdout.split()[-1])
    assert re.search(r"^yolotf\[tf-cpu\]", requirements.read_text(), re.MULTILINE)
    single, batch = json.loads((folder / "answers.json").read_text())
    assert_found(single[0], detector(images[0]))
    for image, answer in zip(images, batch, strict=True):
        assert_found(answer, detector(image))

    port = free_port()
    command = ["mlflow", "models", "serve", "-m", logged, "--env-manager", "local"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    address = f"http://127.0.0.1:{port}"
    with serving(folder, command, f"{address}/ping"):
        sent = [image.tolist() for image in images[:2]]
        answers = post(f"{address}/invocations", {"inputs": sent})["predictions"]
        for image, answer in zip(images, answers, strict=False):
            assert_found(answer, detector(image))
        assert len(answers) == 2


FORKED = """
import json

import yolotf

detector = MADE


def app(environ, start_response):
    try:
        answer = detector("bus.jpg").to_dict()
    except yolotf.YolotfError as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
"""
DETECTOR = 'yolotf.Detector("yolov4-tiny", "yolov4-tiny.weights", class_names="coco.names")'
HOOK = f"""
import yolotf


def post_fork(server, worker):
    import forked

    forked.detector = {DETECTOR}
"""


@with_servers
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_gunicorn_forks(before, folder, detector):
    """A detector that was made before the fork says so; one made in post_fork detects."""
    (folder / "forked.py").write_text(FORKED.replace("MADE", DETECTOR if before else "None"))
    (folder / "hook.py").write_text(HOOK)
    address = f"127.0.0.1:{free_port()}"
    command = ["gunicorn", "forked:app", "-b", address, "-w", "2"]
    command += ["--preload"] if before else ["-c", "hook.py"]
    with serving(folder, command, f"http://{address}"):
        answer = post(f"http://{address}", b"")
    if before:
        assert answer["error"] == "ForkedProcessError"
        assert "fork" in answer["message"]
    else:
        assert_found(answer, detector(folder / "bus.jpg"))


@with_servers
@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_other_engines_survive_a_fork(engine, folder, detector):
    """Also several reloads; each would wait for threads that a worker does not have."""
    made = DETECTOR.replace(")", f', engine="{engine}", threads=1)')
    act = 'answer = detector("bus.jpg").to_dict()'
    reload = f'detector.reload("yolov4-tiny.weights")\n        {act}'
    (folder / "forked.py").write_text(FORKED.replace("MADE", made).replace(act, reload))
    address = f"127.0.0.1:{free_port()}"
    command = ["gunicorn", "forked:app", "-b", address, "-w", "1", "--preload"]
    command += ["--graceful-timeout", "2"]  # onnxruntime keeps the worker from ending
    with serving(folder, command, f"http://{address}"):
        for _ in range(3):
            assert_found(post(f"http://{address}", b""), detector(folder / "bus.jpg"))


REFUSING = {
    "lit.py": (
        "return self.detector(images)",
        "import fastapi",
        "fastapi.HTTPException(400, str(error))",
    ),
    "bento.py": (
        "return self.detector(image).to_dict()",
        "import bentoml",
        "bentoml.exceptions.InvalidArgument(str(error))",
    ),
    "kserve_model.py": (
        'return {"predictions": [detections.to_dict() for detections in self.detector(images)]}',
        "import kserve",
        "kserve.errors.InvalidInput(str(error))",
    ),
}


@with_servers
@pytest.mark.parametrize("title", REFUSING)
def test_exceptions_that_are_answered_with_400(title, folder):
    """Those that the page names, raised from a detector's own."""
    line, module, exception = REFUSING[title]
    assert exception.partition("(")[0] in PAGE.read_text("utf-8")
    content = recipe(title)
    assert content.count(line) == 1
    attempt = (
        f"try:\n            {line}\n"
        f"        except (OSError, TypeError, ValueError) as error:\n"
        f"            raise {exception} from None"
    )
    port = free_port()
    content = f"{module}\n{content.replace(line, attempt)}".replace("18321", str(port))
    (folder / title).write_text(content)
    address = f"http://127.0.0.1:{port}"
    command, ready, where, body, kind = {
        "lit.py": (
            ["python", "lit.py"],
            "/health",
            "/predict",
            {"image": np.zeros((3, 20, 30), int).tolist()},
            "application/json",
        ),
        "bento.py": (
            bentoml(port),
            "/readyz",
            "/detect_file",
            b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
            b"no image\r\n--x--\r\n",
            "multipart/form-data; boundary=x",
        ),
        "kserve_model.py": (
            ["python", title, "--http_port", str(port), "--enable_grpc", "false"],
            "/v2/health/ready",
            "/v1/models/detector:predict",
            {"instances": [{"b64": base64.b64encode(b"no image").decode()}]},
            "application/json",
        ),
    }[title]
    with (
        serving(folder, command, address + ready),
        pytest.raises(urllib.error.HTTPError) as refused,
    ):
        post(address + where, body, kind)
    assert refused.value.code == 400
    assert "image" in refused.value.read().decode()
