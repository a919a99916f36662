"""`yolotf.ray` on a real Ray cluster of this machine."""

import base64
import concurrent.futures
import io
import json
import os
import socket
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import helpers
import numpy as np
import pytest
from cfgs import conv, net, normalized, yolo
from PIL import Image

import yolotf

ray = pytest.importorskip("ray", reason="needs the ray extra")
pytest.importorskip("ray.serve", reason="needs the ray extra")
pytestmark = [
    pytest.mark.ray,
    # Ray's own, in its threads and sockets.
    pytest.mark.filterwarnings("ignore"),
]

CFG = net(32) + normalized(8, 3, stride=2) + conv(18) + yolo(1, "4,4, 8,8, 16,16")
THRESHOLD = 0.3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A cfg, two files of other weights, one that does not fit, pictures and one that is none."""
    path = tmp_path_factory.mktemp("ray")
    (path / "small.cfg").write_text(CFG)
    (path / "small.names").write_text("thing\n")
    network = yolotf.parse_cfg(CFG)
    helpers.write_weights(path / "a.weights", network, seed=1)
    helpers.write_weights(path / "b.weights", network, seed=2)
    (path / "bad.weights").write_bytes((path / "a.weights").read_bytes()[:-400])
    rng = np.random.default_rng(3)
    for number in range(6):
        pixels = rng.integers(0, 256, (40 + number, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path / f"{number}.png")
    (path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    return path


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def cluster():
    """Ray with six processors' worth of actors, whatever this machine has."""
    environment = {"PYTHONPATH": os.pathsep.join(helpers.PYTHONPATH)}
    os.environ.update(RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0", RAY_AUTH_MODE="disabled")
    ray.init(
        num_cpus=6,
        include_dashboard=True,
        dashboard_port=free_port(),
        log_to_driver=False,
        runtime_env={"env_vars": environment},
        object_store_memory=200 << 20,
    )
    yield
    from ray import serve

    serve.shutdown()
    ray.shutdown()


def deploy(folder, user_config):
    """What `serve deploy` sends; returns when it runs."""
    args = {
        "cfg": str(folder / "small.cfg"),
        "weights": str(folder / "a.weights"),
        "names": str(folder / "small.names"),
        "score": THRESHOLD,
        "replicas": 2,
        "batch_wait_ms": 20,
    }
    application = {"name": "yolotf", "import_path": "yolotf.ray:app", "args": args}
    if user_config:
        application["deployments"] = [{"name": "Detector", "user_config": user_config}]
    dashboard = f"http://{ray.worker.global_worker.node.address_info['webui_url']}"
    request = urllib.request.Request(
        f"{dashboard}/api/serve/applications/",
        json.dumps({"applications": [application]}).encode(),
        {"content-type": "application/json"},
        method="PUT",
    )
    urllib.request.urlopen(request, timeout=30).close()
    deadline = time.monotonic() + 120
    while ray.serve.status().applications["yolotf"].status != "RUNNING":
        assert time.monotonic() < deadline, ray.serve.status()
        time.sleep(0.2)


@pytest.fixture(scope="module")
def served(cluster, folder):
    """The application with two replicas; the address it answers at."""
    from ray import serve

    port = free_port()
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    deploy(folder, None)
    return f"http://127.0.0.1:{port}"


def expected(folder, weights, number):
    detector = yolotf.Detector(
        folder / "small.cfg",
        folder / f"{weights}.weights",
        names=folder / "small.names",
        score=THRESHOLD,
    )
    return detector(folder / f"{number}.png").to_dict()["detections"]


def ask(address, data=None, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(address, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers["content-type"], answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["content-type"], error.read()


def same(found, wanted):
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert one["class"] == other["class"]
        assert one["name"] == "thing"
        np.testing.assert_allclose(one["score"], other["score"], atol=1e-5)
        np.testing.assert_allclose(one["xyxy"], other["xyxy"], atol=1e-2)


def test_a_picture_is_answered_as_the_detector_does(served, folder):
    data = (folder / "0.png").read_bytes()
    status, kind, body = ask(f"{served}/detect", data, content_type="image/png")
    assert (status, kind) == (200, "application/json")
    wanted = expected(folder, "a", 0)
    assert wanted, "a test without detections proves nothing"
    same(json.loads(body)["detections"], wanted)


def test_json_in_and_many_pictures(served, folder):
    images = [base64.b64encode((folder / f"{n}.png").read_bytes()).decode() for n in range(3)]
    content = json.dumps({"images": images}).encode()
    status, _, body = ask(f"{served}/detect", content, content_type="application/json")
    assert status == 200
    results = json.loads(body)["results"]
    for number, result in enumerate(results):
        same(result["detections"], expected(folder, "a", number))


def form(files):
    boundary = "a-boundary"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n".encode()
        + data
        + b"\r\n"
        for name, data in files
    ]
    return b"".join(
        parts
    ) + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def test_one_broken_picture_fails_alone(served, folder):
    names = ["0.png", "broken.png", "1.png"]
    body, kind = form([(name, (folder / name).read_bytes()) for name in names])
    status, _, answer = ask(f"{served}/detect", body, content_type=kind)
    assert status == 200
    first, broken, last = json.loads(answer)["results"]
    same(first["detections"], expected(folder, "a", 0))
    assert broken.keys() == {"error"}
    assert "not a picture" in broken["error"]
    same(last["detections"], expected(folder, "a", 1))


@pytest.mark.parametrize(
    ("body", "kind", "status", "says"),
    [
        (b"no picture", "image/jpeg", 400, "not a picture"),
        (b"", "image/jpeg", 400, "the body is empty"),
        (b"{", "application/json", 400, "not JSON"),
        (b"[]", "application/json", 400, "JSON must be"),
        (b'{"image": "%"}', "application/json", 400, "JSON must be"),
        (b'{"images": 3}', "application/json", 400, "JSON must be"),
        (b'{"images": [3]}', "application/json", 400, "JSON must be"),
    ],
)
def test_a_request_that_is_none_is_told(served, body, kind, status, says):
    found, _, answer = ask(f"{served}/detect", body, content_type=kind)
    assert found == status
    assert says in json.loads(answer)["error"]


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_the_picture_with_its_boxes(served, folder, kind):
    data = (folder / "0.png").read_bytes()
    status, found, body = ask(
        f"{served}/detect", data, content_type="image/png", accept=f"image/{kind}"
    )
    assert (status, found) == (200, f"image/{kind}")
    with Image.open(io.BytesIO(body)) as image:
        assert image.size == (48, 40)
        assert image.format == kind.upper()


def test_json_and_picture_in_one_answer(served, folder):
    status, kind, body = ask(
        f"{served}/detect",
        (folder / "0.png").read_bytes(),
        content_type="image/png",
        accept="multipart/mixed",
    )
    assert status == 200
    boundary = kind.partition("boundary=")[2].encode()
    parts = [part.partition(b"\r\n\r\n") for part in body.split(b"--" + boundary)[1:-1]]
    assert [head.strip() for head, _, _ in parts] == [
        b"Content-Type: application/json",
        b"Content-Type: image/jpeg",
    ]
    same(json.loads(parts[0][2])["detections"], expected(folder, "a", 0))
    assert parts[1][2].startswith(b"\xff\xd8")


def test_health_and_status(served, folder):
    assert ask(f"{served}/health")[0] == 200
    status = json.loads(ask(f"{served}/status")[2])
    assert status["weights"]["path"] == str(folder / "a.weights")
    assert status["weights"]["header"]["seen"] == 64
    assert status["refused"] is None
    assert status["threads"] == 1


def all_status(served, many=24):
    """Of every replica, as far as that many questions reach them."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(f"{served}/status")[2], range(many)))
    return [json.loads(answer) for answer in answers]


def test_new_weights_while_requests_are_served_and_a_bad_file_that_is_refused(served, folder):
    data = (folder / "2.png").read_bytes()
    old, new = expected(folder, "a", 2), expected(folder, "b", 2)
    assert old != new
    stop, problems, answers = threading.Event(), [], []

    def client():
        while not stop.is_set():
            status, _, body = ask(f"{served}/detect", data, content_type="image/png")
            found = json.loads(body).get("detections")
            answers.append(found)
            for wanted in (old, new):
                try:
                    same(found, wanted)
                    break
                except AssertionError:
                    continue
            else:
                problems.append((status, body))

    clients = [threading.Thread(target=client) for _ in range(4)]
    for one in clients:
        one.start()
    try:
        deploy(folder, {"weights": str(folder / "b.weights")})
        deadline = time.monotonic() + 60
        while {one["weights"]["path"] for one in all_status(served)} != {str(folder / "b.weights")}:
            assert time.monotonic() < deadline
        deploy(folder, {"weights": str(folder / "bad.weights")})
        while not all(one["refused"] for one in all_status(served)):
            assert time.monotonic() < deadline
    finally:
        stop.set()
        for one in clients:
            one.join()
    assert not problems, problems[0]
    assert len(answers) > 10
    for status in all_status(served):
        assert status["weights"]["path"] == str(folder / "b.weights")
        assert status["refused"]["weights"] == str(folder / "bad.weights")
        assert "bad.weights" in status["refused"]["error"]
    same(json.loads(ask(f"{served}/detect", data)[2])["detections"], new)


def test_a_killed_replica_loses_only_what_was_in_flight(served, folder):
    data = (folder / "0.png").read_bytes()
    victim = next(
        ray.get_actor(one["name"], namespace="serve")
        for one in ray.util.list_named_actors(all_namespaces=True)
        if "Detector" in one["name"] and one["namespace"] == "serve"
    )
    ray.kill(victim)
    deadline = time.monotonic() + 90
    good = 0
    while good < 20:
        assert time.monotonic() < deadline
        status, _, _ = ask(f"{served}/detect", data, content_type="image/png")
        good = good + 1 if status == 200 else 0


def test_a_dataset_of_pictures_and_where_it_goes_on(cluster, folder, tmp_path):
    import pyarrow.parquet

    from yolotf.ray import detect_dataset

    paths = [folder / f"{number}.png" for number in range(4)]
    arguments = {
        "cfg": str(folder / "small.cfg"),
        "weights": str(folder / "a.weights"),
        "output": tmp_path / "found",
        "names": str(folder / "small.names"),
        "score": THRESHOLD,
        "batch_size": 3,
    }
    assert detect_dataset([*paths, folder / "broken.png"], **arguments) == 5
    assert detect_dataset([*paths, folder / "broken.png"], **arguments) == 0
    assert detect_dataset([*paths, folder / "4.png"], **arguments) == 1
    rows = pyarrow.parquet.read_table(tmp_path / "found").to_pylist()
    assert len(rows) == 6
    for row in rows:
        name = Path(row["path"]).name
        if name == "broken.png":
            assert row["error"]
            assert row["boxes"] == []
            continue
        wanted = expected(folder, "a", int(name[0]))
        assert row["error"] == ""
        np.testing.assert_allclose(row["scores"], [one["score"] for one in wanted], atol=1e-5)
        np.testing.assert_allclose(row["boxes"], [one["xyxy"] for one in wanted], atol=1e-2)
        assert row["names"] == ["thing"] * len(wanted)


def test_a_dataset_with_the_files_in_it(cluster, folder, tmp_path):
    from yolotf.ray import detect_dataset

    dataset = ray.data.read_binary_files(str(folder / "0.png"), include_paths=True)
    found = detect_dataset(
        dataset, str(folder / "small.cfg"), str(folder / "a.weights"), tmp_path / "found"
    )
    assert found == 1
    with pytest.raises(ValueError, match="none called path"):
        detect_dataset(
            ray.data.from_items([{"name": "x"}]),
            str(folder / "small.cfg"),
            str(folder / "a.weights"),
            tmp_path / "other",
        )


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"iou": 1}, "iou_threshold=1.0 must be at least 0 and below 1"),
        ({"score": -0.5}, "score_threshold=-0.5 must be"),
        ({"max_boxes": 0}, "max_boxes=0 must be at least 1"),
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
    ],
)
def test_settings_refuse_what_a_detector_would(option, message):
    from yolotf.ray import Settings

    with pytest.raises(ValueError, match=message):
        Settings(cfg="yolov4", weights="yolov4.weights", **option)


def test_networks_with_a_memory_are_refused(folder):
    from yolotf.ray import Settings, _detector

    text = CFG.replace("[convolutional]\nfilters=18", "[crnn]\nsize=1\n[convolutional]\nfilters=18")
    (folder / "tracker.cfg").write_text(text)
    settings = Settings(cfg=str(folder / "tracker.cfg"), weights=str(folder / "none.weights"))
    with pytest.raises(yolotf.errors.UnsupportedSectionError) as caught:
        _detector(settings)
    assert str(caught.value) == (
        "tracker.cfg: [crnn] keeps what it saw from frame to frame, and Ray brings pictures of "
        "many videos in any order; use a Detector for each video; section 1 [crnn] (tracker.cfg:12)"
    )
