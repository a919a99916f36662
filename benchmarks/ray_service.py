"""Requests of many clients to the Ray application: at rest, during reloads, with a replica killed.

A Ray cluster on this machine serves two replicas with one processor each; clients on the same
machine send one image after another over HTTP. A row has the answers per second, how long they
took, the number of errors, and the ratio to one `Detector` that is called in a separate process
with all processors and without HTTP.

With `--peers`, the same images are sent, for the same network, to a service built like Ray's own
example of object detection (an ingress that calls a second deployment, image by image) and to plain
FastAPI under uvicorn with one `Detector` that has all processors; and the time from deployment to
the first answer is compared with that of an empty deployment. Needs the extra `[ray]`.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import io
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

os.environ.update(RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0", RAY_AUTH_MODE="disabled")

import ray
from common import make_weights, print_table
from PIL import Image
from ray import serve

import yolotf


class Clients:
    """Threads that send the next request as soon as they have the answer to the last.

    Attributes:
        seconds: the time that each answer took.
        errors: responses with another status than 200, and broken connections.
    """

    def __init__(self, count: int, port: int, picture: bytes) -> None:
        self.seconds: list[float] = []
        self.errors = 0
        self.rate = 0.0
        self._port = port
        self._picture = picture
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]

    def _ask(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        while not self._stop.is_set():
            start = time.perf_counter()
            try:
                connection.request("POST", "/detect", self._picture, {"content-type": "image/jpeg"})
                answer = connection.getresponse()
                answer.read()
                good = answer.status == 200
            except (OSError, http.client.HTTPException):
                connection.close()
                good = False
            if good:
                self.seconds.append(time.perf_counter() - start)
            else:
                self.errors += 1

    def run(self, seconds: float, meanwhile: Callable[[float], None]) -> float:
        """Sends requests for `seconds`, while `meanwhile(deadline)` runs; returns the time."""
        start = time.perf_counter()
        for thread in self._threads:
            thread.start()
        meanwhile(start + seconds)
        time.sleep(max(0.0, start + seconds - time.perf_counter()))
        self._stop.set()
        for thread in self._threads:
            thread.join()
        took = time.perf_counter() - start
        self.rate = len(self.seconds) / took
        return took

    def figures(self) -> tuple[str, str, str]:
        """Returns the median and 99th percentile in milliseconds, and the number of errors."""
        p50, p99 = (1e3 * float(np.percentile(self.seconds, q)) for q in (50, 99))
        return f"{p50:.0f}", f"{p99:.0f}", str(self.errors)


def main() -> None:
    """Runs all rows and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="yolov4-tiny")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--peers", action="store_true")
    parsed = parser.parse_args()
    network = yolotf.network(parsed.network)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("a.weights", "b.weights")]
        for path in paths:
            make_weights(network, path)
        picture = _picture()
        alone = _alone(parsed.network, paths[0], picture, parsed.seconds / 4)
        reloads = 0
        peers = _peers(parsed, paths[0], picture) if parsed.peers else {}
        with _served(parsed.network, paths[0]) as (port, deploy):

            def reload(deadline: float) -> None:
                nonlocal reloads
                while time.perf_counter() < deadline - 1:
                    deploy({"weights": str(paths[(reloads + 1) % 2])})
                    reloads += 1

            ways = {
                "at rest": lambda deadline: None,
                "under reloads": reload,
                "a replica killed": lambda deadline: _kill_one(),
            }
            rows = []
            for name, meanwhile in ways.items():
                clients = Clients(parsed.clients, port, picture)
                took = clients.run(parsed.seconds, meanwhile)
                rate = len(clients.seconds) / took
                p50, p99 = (1e3 * float(np.percentile(clients.seconds, q)) for q in (50, 99))
                label = f"{name} ({reloads})" if meanwhile is reload else name
                figures = f"{rate:.1f}", f"{rate / alone:.2f}", f"{p50:.0f}", f"{p99:.0f}"
                rows.append((label, *figures, str(clients.errors)))
            rows += [
                (name, f"{clients.rate:.1f}", f"{clients.rate / alone:.2f}", *clients.figures())
                for name, clients in peers.items()
            ]
    print_table(
        f"{parsed.network}, {parsed.clients} clients, 2 replicas; Detector alone {alone:.1f}/s",
        ["", "answers/s", "of Detector alone", "p50 ms", "p99 ms", "errors"],
        rows,
    )


def _picture() -> bytes:
    pixels = np.random.default_rng(1).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).resize((810, 1080)).save(out, "jpeg")
    return out.getvalue()


def _alone(network: str, weights: Path, picture: bytes, seconds: float) -> float:
    """Returns the answers per second of one detector that also decodes each image."""
    detector = yolotf.Detector(network, weights)
    detector(picture)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        detector(picture)
        count += 1
    return count / (time.perf_counter() - start)


@contextmanager
def _served(network: str, weights: Path):  # type: ignore[no-untyped-def]
    """Deploys the application; yields its port, and a function that sets its `user_config`."""
    from yolotf.ray import DetectorReplica, Settings

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ray.init(num_cpus=4, log_to_driver=False, include_dashboard=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    settings = Settings(network=network, weights=str(weights), replicas=2, cpus=1)
    deployment = DetectorReplica.options(num_replicas=2, ray_actor_options={"num_cpus": 1})

    def deploy(user_config: dict[str, str] | None) -> None:
        serve.run(deployment.options(user_config=user_config).bind(settings.model_dump()))

    try:
        deploy(None)
        yield port, deploy
    finally:
        serve.shutdown()
        ray.shutdown()


def _peers(parsed: argparse.Namespace, weights: Path, picture: bytes) -> dict[str, Clients]:
    """Measures other services with the same requests, and prints how long each took to start."""
    asked = {}
    with _fastapi(parsed.network, weights) as port:
        asked["plain FastAPI"] = Clients(parsed.clients, port, picture)
        asked["plain FastAPI"].run(parsed.seconds, lambda deadline: None)
    with _cluster() as port:
        for name, application in (
            ("nothing", _empty()),
            ("Ray's example", _example(parsed.network, str(weights))),
            ("yolotf.ray", _yolotf(parsed.network, weights)),
        ):
            start = time.perf_counter()
            serve.run(application)
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("POST", "/detect", picture, {"content-type": "image/jpeg"})
            assert connection.getresponse().status == 200
            print(f"{name}: first answer {time.perf_counter() - start:.1f} s after deploying")
            if name == "Ray's example":
                asked[name] = Clients(parsed.clients, port, picture)
                asked[name].run(parsed.seconds, lambda deadline: None)
            serve.delete("default")
    return asked


_FASTAPI = """
import sys
import fastapi, uvicorn
import yolotf
detector = yolotf.Detector(sys.argv[1], sys.argv[2])
app = fastapi.FastAPI()
@app.post("/detect")
def detect(body: bytes = fastapi.Body(media_type="image/jpeg")):
    return detector(body).to_dict()
uvicorn.run(app, port=int(sys.argv[3]), log_level="error")
"""


@contextmanager
def _fastapi(network: str, weights: Path) -> Iterator[int]:
    port = _free_port()
    command = [sys.executable, "-c", _FASTAPI, network, str(weights), str(port)]
    process = subprocess.Popen(command)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait()


def _empty() -> serve.Application:
    @serve.deployment(num_replicas=2, ray_actor_options={"num_cpus": 1})
    class Empty:
        async def __call__(self, request: Any) -> str:
            return "ok"

    return Empty.bind()


def _example(network: str, weights: str) -> serve.Application:
    """Deploys docs.ray.io/en/latest/serve/tutorials/object-detection.html with this network."""

    @serve.deployment(num_replicas=2, ray_actor_options={"num_cpus": 1})
    class ObjectDetection:
        def __init__(self) -> None:
            self._detector = yolotf.Detector(network, weights, threads=1)

        def detect(self, picture: bytes) -> dict[str, Any]:
            return self._detector(picture).to_dict()

    @serve.deployment
    class Ingress:
        def __init__(self, handle: Any) -> None:
            self._handle = handle

        async def __call__(self, request: Any) -> Any:
            return await self._handle.detect.remote(await request.body())

    return Ingress.bind(ObjectDetection.bind())


def _yolotf(network: str, weights: Path) -> serve.Application:
    from yolotf.ray import Settings, app

    return app(Settings(network=network, weights=str(weights), replicas=2, cpus=1))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def _cluster() -> Iterator[int]:
    port = _free_port()
    ray.init(num_cpus=6, log_to_driver=False, include_dashboard=False)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        yield port
    finally:
        serve.shutdown()
        ray.shutdown()


def _kill_one() -> None:
    name = next(
        actor["name"]
        for actor in ray.util.list_named_actors(all_namespaces=True)
        if "Detector" in actor["name"] and actor["namespace"] == "serve"
    )
    ray.kill(ray.get_actor(name, namespace="serve"))


if __name__ == "__main__":
    main()
