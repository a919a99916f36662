"""Detects in a Ray Data dataset of images and writes Parquet files."""

# No `from __future__ import annotations`: Ray evaluates the annotations.

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from logging import getLogger
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import ray
import ray.data

from yolotf._public import also_named, public, renamed
from yolotf.darknet.detection_options import DetectionOptions, Only, Resize
from yolotf.darknet.dialects import Dialect
from yolotf.files import atomic, fetching, sources
from yolotf.files.paths import StrPath
from yolotf.images.detections import Detections
from yolotf.images.limits import MAX_PIXELS
from yolotf.ray import images
from yolotf.ray.images import Array, Failure
from yolotf.ray.settings import Settings, detector_of
from yolotf.runtime.options import EngineName, Precision, ServingOptions
from yolotf.text import plural

_log = getLogger(__name__)

_CONCURRENT_READS = 8
"""Images an actor reads concurrently; remote storage is mostly latency."""
_MAX_IMAGE_BYTES = 1 << 30
"""Maximum bytes of an image at a URL."""

_READ_BACK = ("path", "error")
"""Columns read back from the output of earlier runs."""

# Explicit, since it cannot be inferred from a batch without detections.
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


@public
@also_named(cfg="network")
@renamed(names="class_names", score="score_threshold", iou="iou_threshold")
def detect_dataset(
    paths: "Iterable[StrPath] | ray.data.Dataset",
    network: str,
    weights: StrPath,
    output: StrPath,
    *,
    classes: int | None = None,
    dialect: Dialect | None = None,
    class_names: str | None = None,
    score_threshold: float = DetectionOptions.score_threshold,
    iou_threshold: float = DetectionOptions.iou_threshold,
    max_boxes: int = DetectionOptions.max_boxes,
    nms_kind: str | None = DetectionOptions.nms_kind,
    agnostic: bool = DetectionOptions.agnostic,
    only: Only = DetectionOptions.only,
    letter_box: bool | None = DetectionOptions.letter_box,
    resize: Resize = DetectionOptions.resize,
    batch_size: int = ServingOptions.batch_size,
    engine: EngineName = ServingOptions.engine,
    precision: Precision = ServingOptions.precision,
    actors: int = 1,
    cpus: int = 1,
    max_pixels: int = MAX_PIXELS,
    timeout: float = fetching.TIMEOUT,
    retry_errors: bool = True,
) -> int:
    """Detects in many images on a Ray cluster and writes the results as Parquet.

    Each actor loads the weights once. An image that cannot be read becomes a row with an `error`.
    Images that `output` already has rows for are skipped: call it again after an interruption to
    continue after the last complete file. A file left incomplete is renamed to `_NAME.broken`, and
    its images are processed again.

    Args:
        paths: paths or URLs (fsspec) of images that every node can read, or a dataset with a column
            `path` that names each image and, optionally, a column `bytes` with its encoded content
            (`ray.data.read_binary_files(folder, include_paths=True)`).
        network: a stock name, or the path of a cfg.
        weights: the `.weights` file, readable on every node.
        output: the folder for Parquet files, on storage that every node can reach.
        classes: number of classes; None: the network's own.
        dialect: see `Detector`.
        class_names: a file with one class name a line.
        score_threshold: see `Detector`.
        iou_threshold: see `Detector`.
        max_boxes: see `Detector`.
        nms_kind: see `Detector`.
        agnostic: see `Detector`.
        only: see `Detector`.
        letter_box: see `Detector`.
        resize: see `Detector`.
        batch_size: images per batch of the network.
        engine: see `Detector`.
        precision: see `Detector`.
        actors: number of concurrent actors.
        cpus: CPU cores per actor, which is also the detector's number of threads.
        max_pixels: larger images are not decoded; their rows have an error.
        timeout: seconds without data after which a server is given up.
        retry_errors: whether to remove the rows with an error and process their images again.

    Returns:
        The number of new images. The rows have `path` (absolute), `boxes` (each left, top, right,
        bottom in pixels), `scores`, `classes`, `names` and `error` (empty if none).

    Raises:
        ValueError: an option is out of range, or the dataset has no column `path`.
        OSError: `output` cannot be written, or contains unrelated Parquet files.
    """
    # Checks the options first: a refused call must leave the output as it was.
    settings = Settings(
        network=_on_every_node(network) if Path(network).is_file() else network,
        weights=_on_every_node(weights),
        classes=classes,
        dialect=dialect,
        class_names=None if class_names is None else _on_every_node(class_names),
        score_threshold=score_threshold,
        iou_threshold=iou_threshold,
        max_boxes=max_boxes,
        nms_kind=nms_kind,
        agnostic=agnostic,
        only=only if only is None or isinstance(only, str) else list(only),
        letter_box=letter_box,
        resize=resize,
        engine=engine,
        precision=precision,
        cpus=cpus,
        batch_size=batch_size,
        max_pixels=max_pixels,
        weights_timeout_s=timeout,
    )
    if isinstance(paths, ray.data.Dataset) and "path" not in (paths.columns() or []):
        raise ValueError(
            f"the dataset has the columns {paths.columns()}, but no column path; add a column path "
            "that names each image"
        )
    folder = Path(output).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    _set_aside_incomplete(folder)
    known = frozenset(_column(folder, "path"))
    done = known
    if retry_errors:
        _remove_errors(folder)
        done = frozenset(_column(folder, "path"))
    if isinstance(paths, ray.data.Dataset):
        dataset = paths.filter(lambda row: row["path"] not in done) if done else paths
    else:
        # Workers run in another folder or on other machines.
        new = [path for path in dict.fromkeys(map(_on_every_node, paths)) if path not in done]
        if not new:
            return 0
        dataset = ray.data.from_items([{"path": path} for path in new])
    results = dataset.map_batches(
        _DatasetDetector,
        fn_constructor_args=(settings.model_dump(), os.getcwd()),  # noqa: PTH109
        batch_size=batch_size,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(size=actors),
        num_cpus=cpus,
    )
    results.write_parquet(os.fspath(folder))
    return len(frozenset(_column(folder, "path")) - known)


def _on_every_node(path: StrPath) -> str:
    """Returns a path that is valid on every node: URLs unchanged, paths absolute."""
    return sources.url_of(path) or os.path.abspath(os.fspath(path))  # noqa: PTH100 - keeps links


# The output of earlier runs.


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.parquet") if path.is_file())


def _set_aside_incomplete(folder: Path) -> None:
    """Renames incomplete files, which a killed run left behind.

    Raises:
        OSError: a complete Parquet file lacks the columns that `detect_dataset` writes.
    """
    for path in _files(folder):
        try:
            names = pyarrow.parquet.read_schema(path).names
            pyarrow.parquet.read_table(path, columns=[name for name in names if name in _READ_BACK])
        except (pyarrow.ArrowInvalid, OSError) as error:
            if getattr(error, "errno", None):  # of the system: permissions, a broken disk
                raise
            broken = path.with_name(f"_{path.name}.broken")  # readers skip names that start with _
            path.rename(broken)
            _log.warning("%s: the file is incomplete; renamed to %s", path, broken.name)
            continue
        if missing := [name for name in _SCHEMA.names if name not in names]:
            raise OSError(
                f"{path}: the Parquet file has no column {missing[0]}, so detect_dataset did not "
                "write it; choose another output folder"
            )


def _column(folder: Path, name: str) -> Iterable[str]:
    for path in _files(folder):
        table = pyarrow.parquet.read_table(path, columns=[name])
        yield from table.column(name).to_pylist()


def _remove_errors(folder: Path) -> None:
    """Removes the rows with an error, so that their images are processed again."""
    for path in _files(folder):
        errors = pyarrow.parquet.read_table(path, columns=["error"]).column("error").to_pylist()
        if not any(errors):
            continue
        table = pyarrow.parquet.read_table(path)
        kept = table.filter(pyarrow.array([not error for error in errors]))
        _log.info(
            "%s: processing %s with an error again", path, plural(len(errors) - len(kept), "image")
        )
        if len(kept):
            with atomic.replacing_path(path) as written:
                pyarrow.parquet.write_table(kept, written)
        else:
            path.unlink()


# Actors.


class _DatasetDetector:
    """An actor of `detect_dataset`."""

    def __init__(self, settings: dict[str, Any], folder: str) -> None:
        self._folder = folder  # base of the dataset's relative paths
        self._settings = Settings.model_validate(settings)
        self._detector = detector_of(self._settings)
        self._pool = ThreadPoolExecutor(_CONCURRENT_READS, "yolotf-read")

    def __call__(self, batch: dict[str, Any]) -> pyarrow.Table:
        paths = [str(path) for path in batch["path"]]
        read = list(self._pool.map(self._read, batch.get("bytes", paths)))
        detected = iter(self._detect([image for image in read if not isinstance(image, Failure)]))
        rows = [image if isinstance(image, Failure) else next(detected) for image in read]
        empty = Detections.of([], [], [])
        detections = [empty if isinstance(row, Failure) else row for row in rows]
        columns = [
            paths,
            [row.xyxy.tolist() for row in detections],
            [row.scores.tolist() for row in detections],
            [row.classes.tolist() for row in detections],
            [list(row.labels) for row in detections],
            [row.reason if isinstance(row, Failure) else "" for row in rows],
        ]
        return pyarrow.table(
            [
                pyarrow.array(column, field.type)
                for column, field in zip(columns, _SCHEMA, strict=True)
            ],
            schema=_SCHEMA,
        )

    def _detect(self, arrays: Sequence[Array]) -> list[Detections | Failure]:
        return images.detect(self._detector, arrays) if arrays else []

    def _read(self, content: Any) -> Array | Failure:
        """Returns the pixels of encoded content, a path or a URL."""
        channels = self._detector.network.input_shape.channels
        if not isinstance(content, bytes):
            path = str(content)
            if (url := sources.url_of(path)) is None:
                path = os.path.join(self._folder, path)  # noqa: PTH118
                return images.read(path, channels, self._settings.max_pixels)
            try:
                content = fetching.read(
                    url, max_bytes=_MAX_IMAGE_BYTES, timeout=self._settings.weights_timeout_s
                )
            except (OSError, ValueError) as error:
                return Failure(str(error), images.BAD_REQUEST)
        return images.read(content, channels, self._settings.max_pixels)
