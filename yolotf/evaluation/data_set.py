"""Reads labelled images: data sets of Darknet and Ultralytics, and folders."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolotf._public import public, renamed_attributes
from yolotf.darknet import data_files
from yolotf.darknet.class_names import check_named, names_beside, read_names
from yolotf.darknet.data_files import DataFile
from yolotf.darknet.data_files import read_data_file as read_data_file
from yolotf.errors import YolotfError
from yolotf.evaluation.labels import NO_TRUTHS, Fork, find_labels, label_places, read_labels
from yolotf.evaluation.labels import Truths as Truths
from yolotf.evaluation.labels import label_path as label_path
from yolotf.files import opening
from yolotf.files.lookup import Lookup
from yolotf.files.paths import StrPath
from yolotf.images.endings import IMAGES
from yolotf.text import plural


@dataclass(frozen=True, eq=False)
class AnnotatedImage:
    """An image of a data set with its labels.

    Attributes:
        path: the image.
        truths: the labels.
        difficult: labels that need not be detected, and are no error if they are.
        coco_id: the image's id in a COCO file.
        size: (width, height) according to a COCO file.
    """

    path: Path
    truths: Truths
    difficult: Truths
    coco_id: int | None = None
    size: tuple[int, int] | None = None


@public
@renamed_attributes(pictures="images", names="class_names")
@dataclass(frozen=True, eq=False)
class DataSet:
    """A data set of labelled images.

    Attributes:
        source: the file that lists the images, or their folder.
        images: the images, in the file's order.
        class_names: class names; empty if the data set has none.
        classes: number of classes; None if the data set does not say.
        unlabelled: images without a label file, which count as empty, as in Darknet.
        coco: the contents of a COCO file; None for other data sets.
        categories: COCO's category id of each class.
        notes: remarks on how the data was read.
    """

    source: str
    images: tuple[AnnotatedImage, ...]
    class_names: tuple[str, ...] = ()
    classes: int | None = None
    unlabelled: tuple[Path, ...] = ()
    coco: Mapping[str, Any] | None = None
    categories: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


def read_data_set(path: StrPath, *, like: Fork = "alexeyab") -> DataSet:
    """Reads a data set in the layout of a common labelling tool.

    Args:
        path: a Darknet data file (`obj.data`), a `data.yaml` of Ultralytics or Roboflow, or a
            folder that contains either, or images and labels.
        like: the fork of Darknet that decides where labels are looked for first.

    Raises:
        OSError: a file cannot be read.
        YolotfError: there are no images or no labels, or a label is invalid.
    """
    given = Path(path)
    if given.is_dir():
        inside = _data_file_in(given)
        return _read_folder(given, like) if inside is None else read_data_set(inside, like=like)
    if given.suffix.lower() in data_files.YAML_ENDINGS:
        return _read_yaml(given, like)
    return read_darknet(given, like=like)


def _data_file_in(folder: Path) -> Path | None:
    """Returns the data file of a folder, if there is exactly one."""
    for name in ("data.yaml", "data.yml", "obj.data"):
        if (folder / name).is_file():
            return folder / name
    files = [path for end in (".yaml", ".yml", ".data") for path in sorted(folder.glob(f"*{end}"))]
    return files[0] if len(files) == 1 else None


def read_darknet(path: StrPath, *, like: Fork = "alexeyab") -> DataSet:
    """Reads the images of a Darknet data file: its `valid` list, their labels and its `names`.

    Paths are looked up beside the data file, also without their leading folders, then in the
    working directory, as in Darknet, then in parent folders; `notes` names files that were found
    elsewhere than at their path. Without `valid`, `train` is used, as in Darknet.

    Raises:
        OSError: a file cannot be read.
        YolotfError: no list is named, a list is empty, no image has labels, or a label is invalid.
    """
    data = data_files.read_data(path)
    notes = list(data.notes)
    lists = _lists(data, "valid", notes)
    lookup = Lookup(Path(path))
    names = _names(data, lookup, notes)
    paths = _paths_in(existing_path(lookup, lists[0]), lookup)
    difficult: list[Path | None] = []
    if data.difficult is not None:
        difficult = _difficult_labels(existing_path(lookup, data.difficult), lookup, like)
    return _labelled(data, paths, names, notes, lookup, like, difficult)


def _read_yaml(path: Path, like: Fork) -> DataSet:
    """Reads a data.yaml; its paths are relative to `path:`, or to its folder."""
    data = data_files.read_data(path)
    notes = list(data.notes)
    lookup = Lookup(path)
    root = lookup.find(data.root) if data.root else None
    folders = [root] if root is not None and root.is_dir() else []
    paths: list[Path] = []
    if data.valid or data.train:
        for name in _lists(data, "val", notes):
            source = existing_path(lookup, name, *folders)
            if source.is_dir():
                paths += _images_in(source)
            else:
                paths += _paths_in(source, lookup, *folders)
    else:
        # supervision writes class names only.
        folder = path.parent / "images"
        folder = folder if folder.is_dir() else path.parent
        notes.append(f"{path}: names no images; evaluating those in {folder}")
        paths += _images_in(folder)
    names = data.names or _names(data, lookup, notes)
    return _labelled(data, paths, names, notes, lookup, like)


def _read_folder(folder: Path, like: Fork) -> DataSet:
    """Reads the images in a folder and its subfolders, and the names file that tools put there."""
    notes = []
    images = folder
    for subfolder in ("valid", "val", "images/val", "images/valid"):
        if (folder / subfolder).is_dir():
            images = folder / subfolder
            notes.append(f"{folder}: evaluating its subfolder {subfolder}")
            break
    places = (images, folder, images.parent, folder / "labels")
    names_file = next((file for place in places if (file := names_beside(place))), None)
    names: tuple[str, ...] = ()
    if names_file is not None:
        names = read_names(names_file)
        notes.append(f"{folder}: the class names are those of {names_file}")
    data = DataFile(folder, names=names, classes=len(names) or None)
    return _labelled(data, _images_in(images), names, notes, Lookup(folder / "data.yaml"), like)


def _images_in(folder: Path) -> list[Path]:
    """Returns the images in a folder and its subfolders, sorted."""
    if folder.samefile(folder.absolute().anchor):
        raise YolotfError(
            f"{folder}: the root of the file system, not a folder of images; give the folder of "
            "the images",
            path=str(folder),
        )
    images = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in IMAGES and not path.name.startswith(".") and path.is_file()
    ]
    if not images:
        raise YolotfError(f"{folder}: no images in this folder", path=str(folder))
    return images


def _lists(data: DataFile, key: str, notes: list[str]) -> tuple[str, ...]:
    """Returns the lists of images to evaluate; the training lists if there are no others."""
    if data.valid:
        return data.valid
    if not data.train:
        wanted = "valid = FILE" if key == "valid" else "val: FOLDER"
        raise YolotfError(
            f"{data.path}: no `{wanted}`; name the images to evaluate on", path=str(data.path)
        )
    notes.append(
        f"{data.path}: no {key}; evaluating train, {data.train[0]}: the network was trained on "
        "these images"
    )
    return data.train


def _names(data: DataFile, lookup: Lookup, notes: list[str]) -> tuple[str, ...]:
    """Returns a data file's class names, or those of a file beside it."""
    if data.names_file is not None:
        names_file = existing_path(lookup, data.names_file)
        check_named(names_file, data.path)
        return read_names(names_file)
    beside = names_beside(data.path.parent)
    if beside is None:
        return ()
    names = read_names(beside)
    if data.classes is not None and len(names) != data.classes:
        return ()
    notes.append(f"{data.path}: no class names; using those of {beside}")
    return names


def existing_path(lookup: Lookup, name: str, *folders: Path) -> Path:
    """Returns the file or folder that a data file names.

    Raises:
        FileNotFoundError: it does not exist.
    """
    path = lookup.find(name, *folders)
    if path is None:
        raise FileNotFoundError(errno.ENOENT, "no such file or directory", name)
    return path


def _paths_in(path: Path, lookup: Lookup, *folders: Path) -> list[Path]:
    """Returns the images of a list; a missing image keeps its path in the list."""
    lines = opening.read_lines(path, max_bytes=opening.MAX_LIST_BYTES, kind="a list of images")
    images = []
    for number, line in enumerate(lines, 1):
        if not (name := line.strip()):
            continue
        image = lookup.find(name, *folders, path.absolute().parent)
        if image is None and "." not in Path(name).name:
            # The line is not quoted: a data file may name any file on this machine.
            raise YolotfError(
                f"{path}: line {number} is not the path of an image; a list has one path per line",
                path=str(path),
                line=number,
            )
        if image is not None and not image.is_file():
            opening.check_regular(image)
        images.append(Path(name) if image is None else image)
    if not images:
        raise YolotfError(
            f"{path}: an empty list; a list has one path of an image per line", path=str(path)
        )
    return images


def _difficult_labels(path: Path, lookup: Lookup, like: Fork) -> list[Path | None]:
    """Returns the label files of Darknet's `difficult` list; their images need not exist."""
    lines = opening.read_lines(path, max_bytes=opening.MAX_LIST_BYTES, kind="a list of images")
    images = [Path(line.strip()) for line in lines if line.strip()]
    folders = (Path(), *lookup.folders)
    return [
        next((file for folder in folders if (file := find_labels(folder / image, like))), None)
        for image in images
    ]


def _labelled(
    data: DataFile,
    paths: Sequence[Path],
    names: tuple[str, ...],
    notes: list[str],
    lookup: Lookup,
    like: Fork,
    difficult_files: Sequence[Path | None] = (),
) -> DataSet:
    """Reads the labels of the images.

    Args:
        data: the data file.
        paths: the images.
        names: the class names.
        notes: notes so far.
        lookup: where the files were found.
        like: the fork of Darknet to follow.
        difficult_files: for each image, the file of its difficult labels, if any.
    """
    limit = data.classes if data.classes is not None else len(names) or None
    unlabelled: list[Path] = []
    images = []
    files_with_outlines = 0
    elsewhere: list[tuple[Path, Path]] = []
    refused: list[Path] = []
    for index, path in enumerate(paths):
        file = find_labels(path, like)
        if like == "hank-ai" and file != label_places(path, like)[0]:
            refused.append(path)
        truths = NO_TRUTHS
        if file is None:
            unlabelled.append(path)
        else:
            truths, outlines = read_labels(file, limit)
            files_with_outlines += outlines > 0
            if file not in label_places(path, like)[:2]:
                elsewhere.append((path, file))
        difficult_file = difficult_files[index] if index < len(difficult_files) else None
        difficult = NO_TRUTHS
        if difficult_file is not None:
            difficult = read_labels(difficult_file, limit).truths
        images.append(AnnotatedImage(path, truths, difficult))
    if len(unlabelled) == len(paths):
        places = [str(place) for place in label_places(unlabelled[0], like)]
        raise YolotfError(
            f"{data.path}: none of its {plural(len(paths), 'image')} has a label file; for "
            f"{unlabelled[0]}, none of these exists: {', '.join(places)}",
            path=str(data.path),
            found=0,
            expected=len(paths),
        )
    notes += lookup.notes()
    notes += _about_repeated(data.path, paths, like)
    notes += _about_labels(data.path, refused, elsewhere, files_with_outlines)
    return DataSet(
        str(data.path),
        tuple(images),
        names,
        data.classes,
        tuple(unlabelled),
        notes=tuple(notes),
    )


def _about_labels(
    source: Path,
    refused: Sequence[Path],
    elsewhere: Sequence[tuple[Path, Path]],
    files_with_outlines: int,
) -> Iterator[str]:
    """Yields notes about label files that a Darknet does not find, or reads differently.

    Args:
        source: the data file.
        refused: images without the label file that hank-ai's Darknet requires.
        elsewhere: images with a label file where no Darknet looks, and that file.
        files_with_outlines: the number of label files with outlines.
    """
    if refused:
        yield (
            f"{source}: {plural(len(refused), 'image')} without labels beside them, the first "
            f"{refused[0]}; hank-ai's Darknet refuses the list"
        )
    if elsewhere:
        image, file = elsewhere[0]
        yield (
            f"{source}: labels of {plural(len(elsewhere), 'image')} are where Darknet does not "
            f"look for them: those of {image} in {file}"
        )
    if files_with_outlines:
        yield (
            f"{source}: {plural(files_with_outlines, 'label file')} with outlines; using the "
            "boxes around them"
        )


def _about_repeated(source: Path, paths: Iterable[Path], like: Fork) -> Iterator[str]:
    """Yields a note if an image is listed several times."""
    # Only hank-ai's follows links before it compares (detector_map.cpp:592).
    absolute = os.path.realpath if like == "hank-ai" else os.path.abspath
    counts = Counter(absolute(path) for path in paths)
    repeated = [path for path, count in counts.items() if count > 1]
    if repeated:
        others = f"; so do {plural(len(repeated) - 1, 'other image')}" if len(repeated) > 1 else ""
        refused = "; hank-ai's Darknet refuses the list" if like == "hank-ai" else ""
        yield (
            f"{source}: lists {repeated[0]} {counts[repeated[0]]} times; every time counts"
            f"{others}{refused}"
        )
