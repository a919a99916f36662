"""The application of Ray Serve: replicas that detect in the pictures of requests."""

# Annotations are objects here, not strings: Ray and FastAPI read them.

import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import fastapi
import numpy as np
from ray import serve
from ray.util import metrics

from yolotf.images.detections import Detections
from yolotf.ray import pictures
from yolotf.ray.answers import Result, answer, json_answer
from yolotf.ray.pictures import Array, Failure
from yolotf.ray.requests import Reader, Refusal
from yolotf.ray.served_file import Outcome, ServedFile
from yolotf.ray.settings import Settings, detector_of

_http = fastapi.FastAPI(title="yolotf", docs_url="/docs")

_FAILURES_BEFORE_RESTART = 3
"""Batches in a row that fail for no picture's fault until Ray is told to restart the replica."""


class _Metrics:
    """What Ray's Prometheus endpoint says of a replica, under the prefix `ray_`."""

    def __init__(self) -> None:
        milliseconds = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000]
        self.latency = metrics.Histogram(
            "yolotf_request_ms", "From a request's arrival to its answer.", milliseconds
        )
        self.batch_size = metrics.Histogram(
            "yolotf_batch_size", "Pictures that went through at once.", [1, 2, 4, 8, 16, 32, 64]
        )
        self.pictures = metrics.Counter("yolotf_pictures", "Pictures detected in.")
        self.broken = metrics.Counter("yolotf_broken_pictures", "Files that were no picture.")
        self.reloads = metrics.Counter("yolotf_reloads", "Changes to other weights.")
        self.reload_failures = metrics.Counter(
            "yolotf_reload_failures", "Files that were refused; the old weights serve on."
        )
        self.seen = metrics.Gauge("yolotf_weights_seen", "`seen` of the weights that serve.")


# Below what it uses: Ray serializes the class while it is being decorated.
@serve.deployment(name="Detector")
@serve.ingress(_http)
class DetectorReplica:
    """One replica: a detector, its threads bound to the replica's processors."""

    def __init__(self, settings: dict[str, Any]) -> None:
        """Loads the file and detects once, so that a replica is ready after its first picture.

        Raises:
            WeightsMismatch: file and network do not belong together.
            OSError: a file cannot be read on this node.
        """
        self._settings = Settings.model_validate(settings)
        self._metrics = _Metrics()
        self._reader = Reader(self._settings)
        self._detector = detector_of(self._settings)
        self._pool = ThreadPoolExecutor(max(2, self._settings.cpus), "yolotf")
        # As many decoded pictures are in memory at a time, those in the network included.
        self._room = asyncio.Semaphore(2 * self._settings.batch_size)
        self._served = ServedFile(self._detector, self._settings.weights)
        self._failures = 0
        height, width, channels = self._detector.network.input_shape
        self._detector(np.full((height, width, channels), 128, np.uint8))
        self._detect_batch.set_max_batch_size(self._settings.batch_size)
        self._detect_batch.set_batch_wait_timeout_s(self._settings.batch_wait_ms / 1e3)
        self._metrics.seen.set(self._detector.weights.header.seen)

    async def reconfigure(self, user_config: Any) -> None:
        """Changes to the file `user_config["weights"]` while requests are served.

        Whatever is wrong with the configuration or the file leaves the old weights serving:
        `/status` says so, the metric `yolotf_reload_failures` counts it. Ray would restart a
        replica whose configuration raises, on the same bad one, for ever.
        """
        # Not in the pool: a slow server of weights is in the way of no picture.
        outcome = await asyncio.to_thread(self._served.change, user_config)
        if outcome is Outcome.CHANGED:
            self._metrics.reloads.inc()
            self._metrics.seen.set(self._detector.weights.header.seen)
        elif outcome is Outcome.REFUSED:
            self._metrics.reload_failures.inc()

    def check_health(self) -> None:
        """Asked by Ray every few seconds.

        Raises:
            RuntimeError: batch after batch failed, and not for a picture; Ray then starts anew.
        """
        if self._failures >= _FAILURES_BEFORE_RESTART:
            raise RuntimeError(f"{self._failures} batches in a row failed")

    @_http.get("/health")
    async def health(self) -> dict[str, str]:
        """200 as long as this replica answers; it exists only after its first picture."""
        return {"status": "ok"}

    @_http.get("/status")
    async def status(self) -> dict[str, Any]:
        """What serves now: network, file, header, reloads, and a file that was refused."""
        served = self._detector.weights
        return {
            "network": self._detector.network.source,
            "weights": {"path": os.fspath(served.path), "header": served.header._asdict()},
            "reloads": self._detector.reloads,
            "refused": self._served.refused,
            "threads": self._settings.cpus,
        }

    @_http.post("/detect")
    async def detect(self, request: fastapi.Request) -> fastapi.Response:
        """Detects in the pictures of a request.

        The body is one JPEG, PNG or other file that Pillow reads; or `multipart/form-data` with
        any number of files; or JSON, `{"image": BASE64}` or `{"images": [BASE64, …]}`.

        The answer is JSON: for one picture `Detections.to_dict()`, else `{"results": [...]}` in
        the request's order, `{"error": …}` for a broken one. With `Accept: image/jpeg` or
        `image/png` (one picture) it is the picture with its boxes, with
        `Accept: multipart/mixed` the JSON and the pictures one after the other.
        """
        started = time.perf_counter()
        try:
            asked = await self._reader.read(request)
        except Refusal as refusal:
            return json_answer({"error": str(refusal)}, refusal.status)
        # One request with many pictures leaves room for others with one.
        turns = asyncio.Semaphore(self._settings.batch_size)
        results = await asyncio.gather(*(self._result(data, turns) for data in asked.pictures))
        self._metrics.latency.observe(1e3 * (time.perf_counter() - started))
        accept = request.headers.get("accept", "")
        return await asyncio.get_running_loop().run_in_executor(
            self._pool, partial(answer, accept, results, single=asked.single)
        )

    async def _result(self, data: bytes, turns: asyncio.Semaphore) -> Result:
        """One picture, decoded off the event loop and detected in a batch with others."""
        async with turns, self._room:
            pixels = await asyncio.get_running_loop().run_in_executor(
                self._pool,
                pictures.read,
                data,
                self._detector.network.input_shape.channels,
                self._settings.max_pixels,
            )
            found: Detections | Failure
            if isinstance(pixels, Failure):
                self._metrics.broken.inc()
                found = pixels
            else:
                self._metrics.pictures.inc()
                found = await self._detect_batch(pixels)
        return Result(data, found, self._settings.max_pixels)

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.005)
    async def _detect_batch(self, batch: list[Array]) -> list[Detections | Failure]:
        self._metrics.batch_size.observe(len(batch))
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._pool, pictures.detect, self._detector, batch)
        except BaseException:
            self._failures += 1
            raise
        failed = all(isinstance(one, Failure) for one in found)
        self._failures = self._failures + 1 if failed else 0
        return found


def app(args: Settings) -> serve.Application:
    """The application; `serve run yolotf.ray:app cfg=… weights=…`.

    Its deployment is called `Detector`. A `user_config` of `{"weights": PATH}` is loaded by every
    replica without a restart, see `DetectorReplica.reconfigure`.
    """
    deployment = DetectorReplica.options(
        num_replicas=args.replicas,
        max_ongoing_requests=args.max_ongoing,
        ray_actor_options={"num_cpus": args.cpus},
    )
    application: serve.Application = deployment.bind(args.model_dump())
    return application
