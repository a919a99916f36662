"""The Ray Serve application: replicas that detect in the images of requests."""

# No `from __future__ import annotations`: Ray and FastAPI evaluate the annotations.

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
from yolotf.ray import images
from yolotf.ray.images import Array, Failure
from yolotf.ray.requests import Reader, Refusal
from yolotf.ray.responses import Result, json_response, response
from yolotf.ray.served_file import Outcome, ServedFile
from yolotf.ray.settings import Settings, detector_of

_http = fastapi.FastAPI(title="yolotf", docs_url="/docs")

_FAILURES_BEFORE_RESTART = 3
"""Consecutive batches whose detection fails before Ray restarts the replica."""


class _Metrics:
    """A replica's Prometheus metrics, which Ray exports with the prefix `ray_`."""

    def __init__(self) -> None:
        milliseconds = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000]
        self.latency = metrics.Histogram(
            "yolotf_request_ms",
            "Milliseconds from a request's arrival to its response.",
            milliseconds,
        )
        self.batch_size = metrics.Histogram(
            "yolotf_batch_size", "Images per batch.", [1, 2, 4, 8, 16, 32, 64]
        )
        self.images = metrics.Counter("yolotf_pictures", "Images processed.")
        self.broken = metrics.Counter("yolotf_broken_pictures", "Uploads that are not images.")
        self.reloads = metrics.Counter("yolotf_reloads", "Reloads of weights that succeeded.")
        self.reload_failures = metrics.Counter(
            "yolotf_reload_failures", "Reloads that failed; the old weights stay in use."
        )
        self.seen = metrics.Gauge(
            "yolotf_weights_seen", "Images seen in training, in the header of the weights in use."
        )


# Defined after everything it uses: the decorator serializes the class.
@serve.deployment(name="Detector")
@serve.ingress(_http)
class DetectorReplica:
    """A replica: a detector whose threads are bound to the replica's CPU cores."""

    def __init__(self, settings: dict[str, Any]) -> None:
        """Loads the weights and detects once, so that a replica is warm before its first request.

        Raises:
            WeightsMismatch: the file does not match the network.
            OSError: a file cannot be read on this node.
        """
        self._settings = Settings.model_validate(settings)
        self._metrics = _Metrics()
        self._reader = Reader(self._settings)
        self._detector = detector_of(self._settings)
        self._pool = ThreadPoolExecutor(max(2, self._settings.cpus), "yolotf")
        # Limits the decoded images in memory, including those being computed.
        self._image_slots = asyncio.Semaphore(2 * self._settings.batch_size)
        self._served = ServedFile(self._detector, self._settings.weights)
        self._failures = 0
        height, width, channels = self._detector.network.input_shape
        self._detector(np.full((height, width, channels), 128, np.uint8))
        self._detect_batch.set_max_batch_size(self._settings.batch_size)
        self._detect_batch.set_batch_wait_timeout_s(self._settings.batch_wait_ms / 1e3)
        self._metrics.seen.set(self._detector.weights.header.seen)

    async def reconfigure(self, user_config: Any) -> None:
        """Switches to the file `user_config["weights"]` while serving requests.

        If the configuration or the file is bad, the old weights stay in use, `/status` reports the
        error, and the metric `yolotf_reload_failures` counts it. Raising would make Ray restart the
        replica with the same configuration forever.
        """
        # Not in the pool: a slow download must not delay images.
        outcome = await asyncio.to_thread(self._served.change, user_config)
        if outcome is Outcome.CHANGED:
            self._metrics.reloads.inc()
            self._metrics.seen.set(self._detector.weights.header.seen)
        elif outcome is Outcome.REFUSED:
            self._metrics.reload_failures.inc()

    def check_health(self) -> None:
        """Health check that Ray calls every few seconds.

        Raises:
            RuntimeError: detection failed for several batches in a row; Ray then restarts the
                replica.
        """
        if self._failures >= _FAILURES_BEFORE_RESTART:
            raise RuntimeError(f"{self._failures} batches in a row failed")

    @_http.get("/health")
    async def health(self) -> dict[str, str]:
        """Responds with 200 while this replica works; a replica takes requests only when warm."""
        return {"status": "ok"}

    @_http.get("/status")
    async def status(self) -> dict[str, Any]:
        """Returns the network, file, header, number of reloads, and the last refused file."""
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
        """Detects in the images of a request.

        The body is a JPEG, PNG or other image that Pillow reads; `multipart/form-data` with any
        number of files; or JSON, `{"image": BASE64}` or `{"images": [BASE64, …]}`.

        The response is JSON: `Detections.to_dict()` for one image, or `{"results": [...]}` in
        request order, with `{"error": …}` for a bad image. With `Accept: image/jpeg` or
        `image/png` (one image) it is the image with its boxes; with
        `Accept: multipart/mixed`, the JSON followed by the images.
        """
        started = time.perf_counter()
        try:
            content = await self._reader.read(request)
        except Refusal as refusal:
            return json_response({"error": str(refusal)}, refusal.status)
        # Keeps a request with many images from starving the others.
        request_slots = asyncio.Semaphore(self._settings.batch_size)
        results = await asyncio.gather(
            *(self._result(data, request_slots) for data in content.images)
        )
        self._metrics.latency.observe(1e3 * (time.perf_counter() - started))
        accept = request.headers.get("accept", "")
        return await asyncio.get_running_loop().run_in_executor(
            self._pool, partial(response, accept, results, single=content.single)
        )

    async def _result(self, data: bytes, request_slots: asyncio.Semaphore) -> Result:
        """Decodes an image off the event loop and detects in it, batched with others."""
        async with request_slots, self._image_slots:
            pixels = await asyncio.get_running_loop().run_in_executor(
                self._pool,
                images.read,
                data,
                self._detector.network.input_shape.channels,
                self._settings.max_pixels,
            )
            outcome: Detections | Failure
            if isinstance(pixels, Failure):
                self._metrics.broken.inc()
                outcome = pixels
            else:
                self._metrics.images.inc()
                outcome = await self._detect_batch(pixels)
        return Result(data, outcome, self._settings.max_pixels)

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.005)
    async def _detect_batch(self, batch: list[Array]) -> list[Detections | Failure]:
        self._metrics.batch_size.observe(len(batch))
        loop = asyncio.get_running_loop()
        try:
            results = await loop.run_in_executor(self._pool, images.detect, self._detector, batch)
        except BaseException:
            self._failures += 1
            raise
        failed = all(isinstance(result, Failure) for result in results)
        self._failures = self._failures + 1 if failed else 0
        return results


def app(args: Settings) -> serve.Application:
    """Returns the application; `serve run yolotf.ray:app network=… weights=…`.

    Its deployment is named `Detector`. Every replica loads a `user_config` of
    `{"weights": PATH}` without a restart, see `DetectorReplica.reconfigure`.
    """
    deployment = DetectorReplica.options(
        num_replicas=args.replicas,
        max_ongoing_requests=args.max_ongoing,
        ray_actor_options={"num_cpus": args.cpus},
    )
    application: serve.Application = deployment.bind(args.model_dump())
    return application
