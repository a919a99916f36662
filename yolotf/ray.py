"""A detector past one machine: an application for Ray Serve, and detection in a Ray Data set.

    serve run yolotf.ray:app cfg=yolov4 weights=yolov4.weights names=coco.names

or, with a config file that names `yolotf.ray:app` and its `args`, `serve deploy`. Needs
`pip install "yolotf[ray]"`; nothing else of yolotf imports this module.
"""

# Annotations are objects here, not strings: Ray and FastAPI read them.

import asyncio
import base64
import binascii
import io
import json
import logging
import os
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fastapi
import numpy as np
import numpy.typing as npt
import pyarrow
import pyarrow.dataset
import ray
import ray.data
from pydantic import BaseModel, ConfigDict, Field, model_validator
from ray import serve
from ray.util import metrics

from yolotf._public import public
from yolotf.darknet import stock
from yolotf.darknet.detection_options import DetectionOptions
from yolotf.darknet.graph_checks import check_forgetful
from yolotf.errors import YolotfError
from yolotf.files import sources
from yolotf.files.json import to_json
from yolotf.images.detections import Detections, open_picture
from yolotf.inference import Detector
from yolotf.runtime.options import EngineName, Precision, ServingOptions

_log = logging.getLogger("ray.serve")
_http = fastapi.FastAPI(title="yolotf", docs_url="/docs")

_FAILURES_BEFORE_RESTART = 3
"""Batches in a row that fail for no picture's fault until Ray is told to restart the replica."""


class Settings(BaseModel):
    """The `args` of the application.

    Attributes:
        cfg: a stock name, or the path of a cfg that every node can read.
        weights: the `.weights` file to start with.
        names: class names, one a line; None for numbers.
        score: lowest score of a detection.
        iou: boxes of one class that overlap more exclude each other.
        max_boxes: detections per picture, the best ones.
        engine: what computes, see `Detector`.
        precision: see `Detector`.
        cpus: processors of a replica, and so the threads of its detector.
        replicas: how many to run.
        batch_size: pictures that go through the network at once.
        batch_wait_ms: how long the first picture of a batch waits for others.
        max_ongoing: requests a replica takes before others wait at the proxy.
        max_picture_bytes: a request's body may not be larger.
    """

    model_config = ConfigDict(extra="forbid")

    cfg: str
    weights: str
    names: str | None = None
    score: float = DetectionOptions.score_threshold
    iou: float = DetectionOptions.iou_threshold
    max_boxes: int = DetectionOptions.max_boxes
    engine: EngineName = ServingOptions.engine
    precision: Precision = ServingOptions.precision
    cpus: int = Field(1, ge=1)
    replicas: int = Field(1, ge=1)
    batch_size: int = ServingOptions.batch_size
    batch_wait_ms: float = Field(5.0, ge=0)
    max_ongoing: int = Field(64, ge=1)
    max_picture_bytes: int = Field(64 << 20, ge=1)

    @model_validator(mode="after")
    def _check(self) -> "Settings":
        """Refuses here, where it is deployed, what every replica would refuse."""
        self.wanted()
        self.serving()
        return self

    def wanted(self) -> DetectionOptions:
        """Which detections."""
        return DetectionOptions(
            score_threshold=self.score, iou_threshold=self.iou, max_boxes=self.max_boxes
        )

    def serving(self) -> ServingOptions:
        """How images are read and computed."""
        return ServingOptions(
            batch_size=self.batch_size,
            threads=self.cpus,
            engine=self.engine,
            precision=self.precision,
        )


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


class _Result:
    """What became of one picture."""

    def __init__(
        self,
        pixels: npt.NDArray[np.uint8] | None,
        found: Detections | None,
        error: str | None,
    ) -> None:
        self.pixels = pixels
        self.found = found
        self.error = error

    def to_dict(self) -> dict[str, Any]:
        return self.found.to_dict() if self.found is not None else {"error": self.error}

    def drawn(self, format: str) -> bytes:
        assert self.found is not None
        assert self.pixels is not None
        memory = io.BytesIO()
        self.found.draw(self.pixels).save(memory, format)
        return memory.getvalue()


class _Refusal(Exception):
    """A request that is not one; `status` is HTTP's."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def _answer(accept: str, results: Sequence[_Result], single: bool) -> fastapi.Response:
    content = results[0].to_dict() if single else {"results": [one.to_dict() for one in results]}
    status = 400 if all(one.error for one in results) else 200
    kinds = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    picture = next((kind for kind in kinds if kind in ("image/jpeg", "image/png")), None)
    if picture and len(results) == 1 and status == 200:
        data = results[0].drawn(picture.removeprefix("image/"))
        return fastapi.Response(data, media_type=picture)
    if "multipart/mixed" not in kinds:
        return _json(content, status)
    boundary = uuid.uuid4().hex
    parts = [("application/json", to_json(content).encode())]
    parts += [("image/jpeg", one.drawn("jpeg")) for one in results if one.error is None]
    body = b"".join(
        b"--%s\r\nContent-Type: %s\r\n\r\n%s\r\n" % (boundary.encode(), kind.encode(), data)
        for kind, data in parts
    )
    return fastapi.Response(
        body + b"--%s--\r\n" % boundary.encode(),
        status,
        media_type=f"multipart/mixed; boundary={boundary}",
    )


def _json(content: dict[str, Any], status: int = 200) -> fastapi.Response:
    return fastapi.Response(to_json(content), status, media_type="application/json")


def _from_json(body: bytes) -> tuple[list[bytes], bool]:
    wrong = 'JSON must be {"image": BASE64} or {"images": [BASE64, ...]}'
    try:
        content = json.loads(body)
        if not isinstance(content, dict):
            raise _Refusal(wrong, 400)
        single = "image" in content
        images = [content["image"]] if single else content.get("images")
        if not isinstance(images, list) or not images:
            raise _Refusal(wrong, 400)
        return [base64.b64decode(image, validate=True) for image in images], single
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise _Refusal(f"not JSON: {error}", 400) from None
    except (binascii.Error, TypeError, ValueError) as error:
        raise _Refusal(f"{wrong}: {error}", 400) from None


def _opened(data: bytes) -> Any:
    from PIL import Image  # keeps `import yolotf.ray` light on workers that only route

    return Image.open(io.BytesIO(data))


def _detector(settings: Settings) -> Detector:
    network = stock.as_network(settings.cfg)
    check_forgetful(
        network, "Ray brings pictures of many videos in any order; use a Detector for each video"
    )
    return Detector(
        network,
        settings.weights,
        names=settings.names,
        score=settings.score,
        iou=settings.iou,
        max_boxes=settings.max_boxes,
        batch_size=settings.batch_size,
        threads=settings.cpus,
        engine=settings.engine,
        precision=settings.precision,
    )


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
        self._detector = _detector(self._settings)
        self._pool = ThreadPoolExecutor(max(2, self._settings.cpus), "yolotf")
        self._refused: dict[str, str] | None = None
        self._failures = 0
        height, width, channels = self._detector.network.input_shape
        self._detector(np.full((height, width, channels), 128, np.uint8))
        self._detect_batch.set_max_batch_size(self._settings.batch_size)
        self._detect_batch.set_batch_wait_timeout_s(self._settings.batch_wait_ms / 1e3)
        self._serving(self._settings.weights)

    async def reconfigure(self, user_config: dict[str, Any] | None) -> None:
        """Changes to the file `user_config["weights"]` while requests are served.

        A file that does not fit leaves the old weights serving: `/status` says so, the metric
        `yolotf_reload_failures` counts it. Ray would restart a replica whose configuration
        raises, on the same bad file, for ever.
        """
        unknown = sorted(set(user_config or {}) - {"weights"})
        weights = (user_config or {}).get("weights")
        if unknown or (weights is not None and not isinstance(weights, str)):
            self._refuse(
                str(weights), f"user_config takes weights, a path; not {unknown or weights!r}"
            )
        if not isinstance(weights, str) or weights == self._weights:
            return
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._pool, self._detector.reload, weights)
        except (YolotfError, OSError) as error:
            self._refuse(weights, str(error))
            return
        self._refused = None
        self._metrics.reloads.inc()
        self._serving(weights)

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
            "refused": self._refused,
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
            files, single = await self._files(request)
        except _Refusal as refusal:
            return _json({"error": str(refusal)}, refusal.status)
        results = await asyncio.gather(*(self._one(data) for data in files))
        self._metrics.latency.observe(1e3 * (time.perf_counter() - started))
        return await asyncio.get_running_loop().run_in_executor(
            self._pool, _answer, request.headers.get("accept", ""), results, single
        )

    async def _one(self, data: bytes) -> _Result:
        """One picture, decoded off the event loop and detected in a batch with others."""
        loop = asyncio.get_running_loop()
        try:
            pixels = await loop.run_in_executor(self._pool, self._decode, data)
        except (OSError, ValueError, SyntaxError) as error:  # Pillow raises all of these
            self._metrics.broken.inc()
            return _Result(None, None, f"not a picture: {error}")
        self._metrics.pictures.inc()
        return _Result(pixels, await self._detect_batch(pixels), None)

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.005)
    async def _detect_batch(self, pictures: list[npt.NDArray[np.uint8]]) -> list[Detections]:
        self._metrics.batch_size.observe(len(pictures))
        loop = asyncio.get_running_loop()
        found: list[Detections]
        try:
            found = await loop.run_in_executor(self._pool, self._detector, pictures)
        except BaseException:
            self._failures += 1
            raise
        self._failures = 0
        return found

    def _decode(self, data: bytes) -> npt.NDArray[np.uint8]:
        channels = self._detector.network.input_shape.channels
        image = open_picture(_opened(data)).convert("L" if channels == 1 else "RGB")
        return np.asarray(image)

    async def _files(self, request: fastapi.Request) -> tuple[list[bytes], bool]:
        """The encoded pictures of a request, and whether it is about one alone."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        limit = self._settings.max_picture_bytes
        if int(request.headers.get("content-length") or 0) > limit:
            raise _Refusal(f"the body is larger than {limit} bytes", 413)
        if kind == "multipart/form-data":
            form = await request.form()
            files = [
                await part.read() for _, part in form.multi_items() if not isinstance(part, str)
            ]
            if not files:
                raise _Refusal("the form holds no file", 400)
            return files, False
        chunks, size = [], 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise _Refusal(f"the body is larger than {limit} bytes", 413)
            chunks.append(chunk)
        body = b"".join(chunks)
        if kind == "application/json":
            return _from_json(body)
        if not body:
            raise _Refusal("the body is empty; send a picture, a form with files, or JSON", 400)
        return [body], True

    def _refuse(self, weights: str, why: str) -> None:
        self._refused = {"weights": sources.redacted(weights), "error": sources.redacted(why)}
        self._metrics.reload_failures.inc()
        _log.error("kept the old weights: %s", sources.redacted(why))

    def _serving(self, weights: str) -> None:
        self._weights = weights
        self._metrics.seen.set(self._detector.weights.header.seen)


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


# Ray Data


@public
def detect_dataset(
    paths: "Sequence[str | os.PathLike[str]] | ray.data.Dataset",
    cfg: str,
    weights: str,
    output: str | os.PathLike[str],
    *,
    names: str | None = None,
    score: float = DetectionOptions.score_threshold,
    iou: float = DetectionOptions.iou_threshold,
    max_boxes: int = DetectionOptions.max_boxes,
    batch_size: int = ServingOptions.batch_size,
    engine: EngineName = ServingOptions.engine,
    precision: Precision = ServingOptions.precision,
    actors: int = 1,
    cpus: int = 1,
) -> int:
    """Detects in many pictures on a Ray cluster and writes the results as Parquet.

    Each actor loads the file once. A picture that cannot be read becomes a row with an `error`.
    Pictures that `output` has rows for already are left out: call it again after an interruption,
    and it goes on where whole files had been written.

    Args:
        paths: paths or URLs of pictures that every node can read, or a dataset whose column
            `path` names each picture and whose column `bytes`, if there is one, holds the file
            (`ray.data.read_binary_files(folder, include_paths=True)`).
        cfg: a stock name, or the path of a cfg.
        weights: the `.weights` file, readable on every node.
        output: the folder of Parquet files, on storage that every node reaches.
        names: class names, one a line.
        score: see `Detector`.
        iou: see `Detector`.
        max_boxes: see `Detector`.
        batch_size: pictures that go through the network at once.
        engine: see `Detector`.
        precision: see `Detector`.
        actors: how many run at a time.
        cpus: processors of each actor, and so threads of its detector.

    Returns:
        How many pictures were new. The rows have `path`, `boxes` (each left, top, right, bottom
        in pixels), `scores`, `classes`, `names` and `error` (empty if there is none).

    Raises:
        ValueError: the dataset has no column `path`.
        OSError: `output` cannot be written.
    """
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    done = _paths_in(folder)
    if isinstance(paths, ray.data.Dataset):
        if "path" not in (paths.columns() or []):
            raise ValueError(f"the dataset has columns {paths.columns()}, and none called path")
        dataset = paths.filter(lambda row: row["path"] not in done) if done else paths
    else:
        new = [os.fspath(path) for path in paths if os.fspath(path) not in done]
        if not new:
            return 0
        dataset = ray.data.from_items([{"path": path} for path in new])
    settings = Settings(
        cfg=cfg,
        weights=weights,
        names=names,
        score=score,
        iou=iou,
        max_boxes=max_boxes,
        engine=engine,
        precision=precision,
        cpus=cpus,
        batch_size=batch_size,
    )
    results = dataset.map_batches(
        _DatasetDetector,
        fn_constructor_args=(settings.model_dump(),),
        batch_size=batch_size,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(size=actors),
        num_cpus=cpus,
    )
    results.write_parquet(os.fspath(folder))
    return len(_paths_in(folder)) - len(done)


def _paths_in(folder: Path) -> frozenset[str]:
    """The pictures that have a row in the Parquet files of `folder`."""
    files = sorted(str(path) for path in folder.rglob("*.parquet"))
    if not files:
        return frozenset()
    table = pyarrow.dataset.dataset(files, format="parquet").to_table(columns=["path"])
    return frozenset(table.column("path").to_pylist())


def _read(content: Any, mode: str) -> npt.NDArray[np.uint8] | str:
    """The pixels of a file's content or path, or why there are none."""
    try:
        source = _opened(content) if isinstance(content, bytes) else str(content)
        return np.asarray(open_picture(source).convert(mode))
    except (OSError, ValueError, SyntaxError) as error:  # Pillow raises all of these
        return str(error) or type(error).__name__


class _DatasetDetector:
    """An actor of `detect_dataset`."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._detector = _detector(Settings.model_validate(settings))

    def __call__(self, batch: dict[str, Any]) -> pyarrow.Table:
        paths = [str(path) for path in batch["path"]]
        contents = batch.get("bytes", paths)
        channels = self._detector.network.input_shape.channels
        mode = "L" if channels == 1 else "RGB"
        read = [_read(content, mode) for content in contents]
        pictures = [one for one in read if not isinstance(one, str)]
        errors = [one if isinstance(one, str) else "" for one in read]
        found = iter(self._detector(pictures) if pictures else [])
        nothing = Detections.of([], [], [])
        rows = [nothing if error else next(found) for error in errors]
        columns = [
            paths,
            [one.xyxy.tolist() for one in rows],
            [one.scores.tolist() for one in rows],
            [one.classes.tolist() for one in rows],
            [list(one.names) for one in rows],
            errors,
        ]
        return pyarrow.table(
            [
                pyarrow.array(column, field.type)
                for column, field in zip(columns, _SCHEMA, strict=True)
            ],
            schema=_SCHEMA,
        )


# Said, since a batch without detections does not tell.
_SCHEMA = pyarrow.schema(
    {
        "path": pyarrow.string(),
        "boxes": pyarrow.list_(pyarrow.list_(pyarrow.float32())),
        "scores": pyarrow.list_(pyarrow.float32()),
        "classes": pyarrow.list_(pyarrow.int64()),
        "names": pyarrow.list_(pyarrow.string()),
        "error": pyarrow.string(),
    }
)
