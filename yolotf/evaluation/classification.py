"""Evaluates classifiers on labelled images: top-1 and top-k accuracy."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from yolotf import argument_numbers
from yolotf._public import renamed_attributes
from yolotf.darknet import data_files
from yolotf.darknet.cfg import Network, Source
from yolotf.darknet.class_names import Names, check_named, read_names
from yolotf.darknet.dialects import Dialect
from yolotf.errors import YolotfError
from yolotf.evaluation.data_set import existing_path
from yolotf.evaluation.run import reason
from yolotf.files import opening, sources
from yolotf.files.lookup import Lookup
from yolotf.files.paths import StrPath
from yolotf.images.endings import IMAGES
from yolotf.images.read import read_picture
from yolotf.inference.classifier import Classifier
from yolotf.inference.classifier_images import Resize
from yolotf.progress import Progress, as_progress
from yolotf.runtime.options import EngineName, Precision, ServingOptions
from yolotf.text import listed, plural, whole_number

TOP = 5
"""The k of top-k accuracy, unless another is given."""


@renamed_attributes(names="class_names")
@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images for `evaluate_classifier`, each with a label.

    Attributes:
        source: the file that lists them, or their folder.
        paths: the images.
        labels: the label of each image, which is in `classes`; None if the image's path contains
            no label. The image then counts as wrong, as in Darknet.
        classes: the labels in the order of the network's classes.
        ordered: whether a file defines that order; labels from folder names have no order.
        class_names: class names for people, if the data set has them.
        top: the data file's k for top-k accuracy.
        notes: remarks on how the data was read.
    """

    source: str
    paths: tuple[Path, ...]
    labels: tuple[str | None, ...]
    classes: tuple[str, ...]
    ordered: bool = True
    class_names: tuple[str, ...] = ()
    top: int = TOP
    notes: tuple[str, ...] = ()


def read_labelled_images(path: StrPath) -> LabelledImages:
    """Reads labelled images for `evaluate_classifier`.

    Args:
        path: a folder with a subfolder for each class; or a Darknet data file with `valid =`, a
            list of images, and `labels =`, a file of labels. An image then belongs to the first
            class whose label is part of the image's path (classifier.c,
            `validate_classifier_single`).

    Raises:
        OSError: a file cannot be read.
        YolotfError: there are no images, or no path contains a label.
    """
    source = Path(path)
    return _read_folders(source) if source.is_dir() else _read_data_file(source)


def _read_data_file(path: Path) -> LabelledImages:
    options = data_files.read_data_file(path)
    lookup = Lookup(path)
    list_name = options.get("valid") or options.get("train")
    labels_name = options.get("labels") or options.get("names")
    if not list_name or not labels_name:
        missing = "labels = FILE" if list_name else "valid = FILE"
        raise YolotfError(
            f"{path}: no `{missing}`; a classifier's data file names a list of images and a file "
            "with a label per line",
            path=str(path),
        )
    classes = _names(path, lookup, labels_name)
    list_file = existing_path(lookup, list_name)
    lines = opening.read_lines(list_file, max_bytes=opening.MAX_LIST_BYTES, kind="a list of images")
    listed_paths = [line.strip() for line in lines if line.strip()]
    if not listed_paths:
        raise YolotfError(
            f"{list_file}: an empty list; a list has one path of an image per line", path=str(path)
        )
    folder = list_file.absolute().parent
    paths = tuple(lookup.find(name, folder) or Path(name) for name in listed_paths)
    # Labels are looked for in the paths as listed: parent folders may be named like a class.
    labels = tuple(_label_in(name, classes) for name in listed_paths)
    if not any(labels):
        raise YolotfError(
            f"{path}: none of the {plural(len(classes), 'label')} of {labels_name} is part of any "
            f"of {plural(len(listed_paths), 'path')}, such as {listed_paths[0]}; Darknet reads the "
            "class of an image from its path",
            path=str(path),
            found=0,
            expected=len(listed_paths),
        )
    names_name = options.get("names")
    names = _names(path, lookup, names_name) if names_name else ()
    notes = [] if options.get("valid") else [f"{path}: no valid; evaluating train"]
    return LabelledImages(
        str(path),
        paths,
        labels,
        classes,
        class_names=names,
        top=max(TOP, whole_number(options.get("top")) or TOP),
        notes=(*notes, *lookup.notes()),
    )


def _label_in(path: str, classes: Sequence[str]) -> str | None:
    """Returns the first label that is part of a path, as Darknet does with C's strstr."""
    return next((label for label in classes if label in path), None)


def _names(path: Path, lookup: Lookup, name: str) -> tuple[str, ...]:
    names_file = existing_path(lookup, name)
    check_named(names_file, path)
    return tuple(read_names(names_file))


def _read_folders(folder: Path) -> LabelledImages:
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
    paths: list[Path] = []
    labels: list[str | None] = []
    for label in classes:
        files = sorted((folder / label).rglob("*"))
        images = [path for path in files if path.suffix.lower() in IMAGES and path.is_file()]
        paths += images
        labels += [label] * len(images)
    if not paths:
        raise YolotfError(
            f"{folder}: no images in subfolders; put the images of each class into a subfolder "
            "with the name of the class",
            path=str(folder),
        )
    return LabelledImages(str(folder), tuple(paths), tuple(labels), tuple(classes), ordered=False)


@dataclass(frozen=True, eq=False)
class ClassificationScore:
    """The share of images that a classifier gets right.

    Attributes:
        top1: share of images whose most likely class is right.
        top_k: share of images with the right class among the `k` most likely.
        k: the k of `top_k`.
        images: number of images evaluated.
        unlabelled: images without a label, which count as wrong, as in Darknet.
        unread: (path, reason) of each unreadable image, which counts as wrong.
        about: network, file, data set and preprocessing.
    """

    top1: float
    top_k: float
    k: int
    images: int
    unlabelled: tuple[str, ...] = ()
    unread: tuple[tuple[str, str], ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        about = self.about
        width, height = about["size"]
        lines = [
            f"{about['network']}, {width}x{height}, resize={about['resize']}: "
            f"{plural(self.images, 'image')} of {about['data']}",
            f"top-1  {100 * self.top1:6.2f} %",
        ]
        if self.k > 1:
            lines.append(f"top-{self.k}  {100 * self.top_k:6.2f} %")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Returns a dictionary for JSON."""
        return {
            **self.about,
            "images": self.images,
            "top1": self.top1,
            f"top{self.k}": self.top_k,
            "k": self.k,
            "unlabelled": len(self.unlabelled),
            "unread": [{"path": path, "error": error} for path, error in self.unread],
        }


def evaluate_classifier(
    network: Network | Source,
    weights: StrPath,
    data: LabelledImages,
    *,
    classes: int | None = None,
    dialect: Dialect | None = None,
    top: int | None = None,
    resize: Resize = "crop",
    class_names: Names = None,
    batch_size: int = ServingOptions.batch_size,
    threads: int | None = ServingOptions.threads,
    max_pixels: int | None = ServingOptions.max_pixels,
    progress: Progress | None = None,
    timeout: float | None = ServingOptions.timeout,
    engine: EngineName = ServingOptions.engine,
    precision: Precision = ServingOptions.precision,
) -> ClassificationScore:
    """Runs a classifier over labelled images and counts the right answers.

    Args:
        network: see `Classifier`.
        weights: the `.weights` file.
        data: from `read_labelled_images`.
        classes: number of classes; None: the network's own.
        dialect: see `Classifier`.
        top: the k of top-k accuracy; None: the data file's, or 5 if it has none.
        resize: how images are resized, see `Classifier`.
        class_names: names of the network's classes, to match labels that are folder names.
        batch_size: images per batch of the network.
        threads: see `Classifier`.
        max_pixels: see `Classifier`.
        progress: called as `progress("classifying", images_done, images_in_total)`.
        timeout: see `Classifier`.
        engine: see `Classifier`.
        precision: see `Classifier`.

    Raises:
        OSError: the weights, or all of the images, cannot be read.
        YolotfError: the data set has other classes than the network.
        WeightsMismatch: the file does not match the network.
        ValueError: an argument is out of range.
    """
    progress = as_progress(progress, "count")
    if top is not None:
        top = argument_numbers.count("top", top)
    classifier = Classifier(
        network,
        weights,
        classes=classes,
        dialect=dialect,
        class_names=class_names,
        resize=resize,
        batch_size=batch_size,
        threads=threads,
        max_pixels=max_pixels,
        timeout=timeout,
        engine=engine,
        precision=precision,
    )
    k = min(data.top if top is None else top, classifier.classes)
    started = time.perf_counter()
    hits, hits_k, unread = _count_hits(
        classifier,
        data,
        k,
        batch_size=batch_size,
        max_pixels=max_pixels,
        progress=progress,
    )
    total = len(data.paths)
    if len(unread) == total:
        path, why = unread[0]
        raise OSError(f"{path}: {why}, and none of {plural(total, 'image')} can be read")
    height, width = classifier.size
    return ClassificationScore(
        top1=hits / total,
        top_k=hits_k / total,
        k=k,
        images=total,
        unlabelled=tuple(
            str(path) for path, label in zip(data.paths, data.labels, strict=True) if label is None
        ),
        unread=tuple(unread),
        about={
            "network": classifier.network.source,
            "size": [width, height],
            "resize": resize,
            "weights": os.fspath(weights),
            "engine": engine,
            "precision": precision,
            "data": data.source,
            "seconds": round(time.perf_counter() - started, 3),
        },
    )


def _count_hits(
    classifier: Classifier,
    data: LabelledImages,
    k: int,
    *,
    batch_size: int,
    max_pixels: int | None,
    progress: Progress,
) -> tuple[int, int, list[tuple[str, str]]]:
    """Classifies all images.

    Returns:
        The number of images whose most likely class is right, the number of images with the right
        class among the `k` most likely, and (path, reason) of each unreadable image.
    """
    class_ids = _class_ids(classifier, data)
    channels = classifier.network.input_shape.channels
    hits, hits_k = 0, 0
    unread: list[tuple[str, str]] = []
    total = len(data.paths)
    progress("classifying", 0, total)
    for start in range(0, total, batch_size):
        end = min(start + batch_size, total)
        arrays, expected = [], []
        for path, class_id in zip(data.paths[start:end], class_ids[start:end], strict=True):
            try:
                image = read_picture(path, channels, max_pixels=max_pixels)
            except (OSError, ValueError) as error:  # noqa: PERF203 (each may fail)
                unread.append((sources.name_of(path), reason(path, error)))
            else:
                arrays.append(image)
                expected.append(class_id)
        if arrays:
            best = np.argsort(-classifier.probabilities(arrays), axis=1, kind="stable")[:, :k]
            is_hit = best == np.array(expected)[:, None]
            hits += int(is_hit[:, 0].sum())
            hits_k += int(is_hit.any(axis=1).sum())
        progress("classifying", end, total)
    return hits, hits_k, unread


def _class_ids(classifier: Classifier, data: LabelledImages) -> list[int]:
    """Returns the network's class of each image; -1 for an image without a label.

    Raises:
        YolotfError: the data set's classes are not those of the network.
    """
    count = classifier.classes
    names = tuple(classifier.class_names) or data.class_names
    if data.ordered or not names:
        if len(data.classes) != count:
            advice = (
                "; use the data set that the network was trained on"
                if data.ordered
                else "; pass the network's class names"
            )
            raise YolotfError(
                f"{data.source}: {plural(len(data.classes), 'label')}, "
                f"{classifier.network.source} has {count} classes{advice}",
                path=data.source,
                found=len(data.classes),
                expected=count,
            )
        class_ids = _first_positions(data.classes)
    else:
        class_ids = _first_positions(names)
        unknown = [label for label in data.classes if label not in class_ids]
        if unknown:
            raise YolotfError(
                f"{data.source}: {plural(len(unknown), 'folder')} without a class of that name: "
                f"{listed(unknown, 5)}",
                path=data.source,
                found=len(unknown),
            )
    return [-1 if label is None else class_ids[label] for label in data.labels]


def _first_positions(names: Sequence[str]) -> dict[str, int]:
    """Returns the first position of each name."""
    return {name: position for position, name in reversed([*enumerate(names)])}
