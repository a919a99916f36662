"""Labelled images: data sets of Darknet and Ultralytics, and folders of images and labels."""

from __future__ import annotations

import dataclasses
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
from yolotf.images.endings import IMAGES
from yolotf.text import plural

_Path = str | os.PathLike[str]


@dataclass(frozen=True, eq=False)
class AnnotatedImage:
    """An image of a data set with its labels.

    Attributes:
        path: the image.
        truths: its labels.
        difficult: labels that count neither as missed nor as found.
        coco_id: its id in a COCO file.
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
        source: the file that lists the images.
        images: the images, in the file's order.
        class_names: class names; empty if not specified.
        classes: number of classes; None if not specified.
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


def read_data_set(path: _Path, *, like: Fork = "alexeyab") -> DataSet:
    """Reads a data set in the layout of a common labelling tool.

    Args:
        path: a Darknet data file (`obj.data`), a `data.yaml` of Ultralytics or Roboflow, or a
            folder that contains either, or images and labels.
        like: the fork of Darknet that decides where labels are looked for first.

    Raises:
        OSError: a file cannot be read.
        YolotfError: no images, no labels, or an invalid label.
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
    found = [one for end in (".yaml", ".yml", ".data") for one in sorted(folder.glob(f"*{end}"))]
    return found[0] if len(found) == 1 else None


def read_darknet(path: _Path, *, like: Fork = "alexeyab") -> DataSet:
    """Reads the images of a Darknet data file: its `valid` list, their labels and its `names`.

    Its paths are looked up beside the data file, there without leading folders, in the working
    directory, as Darknet does, then in parent folders; `notes` says where files were found if
    not where the path says. Without `valid`, `train` is used, as in Darknet.

    Raises:
        OSError: a file cannot be read.
        YolotfError: no list is named, a list is empty, no image has labels, or a label is invalid.
    """
    data = data_files.read_data(path)
    notes = list(data.notes)
    listed = _chosen(data, "valid", notes)
    lookup = Lookup(Path(path))
    names = _names(data, lookup, notes)
    pictures = _listed(_found(lookup, listed[0]), lookup)
    hard = (
        [] if data.difficult is None else _difficult(_found(lookup, data.difficult), lookup, like)
    )
    return _labelled(data, pictures, names, [*notes], lookup, like, hard)


def _read_yaml(path: Path, like: Fork) -> DataSet:
    """Reads a data.yaml; its paths are relative to `path:`, or to its folder."""
    data = data_files.read_data(path)
    notes = list(data.notes)
    lookup = Lookup(path)
    root = lookup.find(data.root) if data.root else None
    folders = [root] if root is not None and root.is_dir() else []
    pictures: list[Path] = []
    if data.valid or data.train:
        for name in _chosen(data, "val", notes):
            place = _found(lookup, name, *folders)
            pictures += _in_folder(place) if place.is_dir() else _listed(place, lookup, *folders)
    else:
        # supervision writes only names.
        images = path.parent / "images"
        place = images if images.is_dir() else path.parent
        notes.append(f"{path}: names no images; those in {place} are taken")
        pictures += _in_folder(place)
    names = data.names or _names(data, lookup, notes)
    return _labelled(data, pictures, names, notes, lookup, like)


def _read_folder(folder: Path, like: Fork) -> DataSet:
    """Reads the images in a folder and its subfolders, and the names file that tools put there."""
    notes = []
    place = folder
    for part in ("valid", "val", "images/val", "images/valid"):
        if (folder / part).is_dir():
            place = folder / part
            notes.append(f"{folder}: {part}/ of it is evaluated")
            break
    names_file = next(
        (
            file
            for one in (place, folder, place.parent, folder / "labels")
            if (file := names_beside(one)) is not None
        ),
        None,
    )
    names: tuple[str, ...] = ()
    if names_file is not None:
        names = read_names(names_file)
        notes.append(f"{folder}: class names are those of {names_file}")
    data = DataFile(folder, names=names, classes=len(names) or None)
    return _labelled(data, _in_folder(place), names, notes, Lookup(folder / "data.yaml"), like)


def _in_folder(folder: Path) -> list[Path]:
    """Returns the images in a folder and its subfolders, sorted."""
    if folder.samefile(folder.absolute().anchor):
        raise YolotfError(
            f"{folder}: the root of the file system, not a folder of images; name the images' "
            "folder",
            path=str(folder),
        )
    found = [
        one
        for one in sorted(folder.rglob("*"))
        if one.suffix.lower() in IMAGES and not one.name.startswith(".") and one.is_file()
    ]
    if not found:
        raise YolotfError(f"{folder}: no images in this folder", path=str(folder))
    return found


def _chosen(data: DataFile, key: str, notes: list[str]) -> tuple[str, ...]:
    """Returns the lists to evaluate on; the training lists if there are no others."""
    if data.valid:
        return data.valid
    if not data.train:
        wanted = "valid = FILE" if key == "valid" else "val: FOLDER"
        raise YolotfError(
            f"{data.path}: no `{wanted}`; name the images to evaluate on", path=str(data.path)
        )
    notes.append(
        f"{data.path}: no {key}; what is evaluated is train, {data.train[0]}: the network has seen "
        "these images"
    )
    return data.train


def _names(data: DataFile, lookup: Lookup, notes: list[str]) -> tuple[str, ...]:
    """Returns a data file's class names, or those of a file beside it."""
    if data.names_file is not None:
        named = _found(lookup, data.names_file)
        check_named(named, data.path)
        return read_names(named)
    beside = names_beside(data.path.parent)
    if beside is None:
        return ()
    names = read_names(beside)
    if data.classes is not None and len(names) != data.classes:
        return ()
    notes.append(f"{data.path}: names no class names; those of {beside} are taken")
    return names


def _found(lookup: Lookup, name: str, *folders: Path) -> Path:
    found = lookup.find(name, *folders)
    if found is None:
        raise FileNotFoundError(2, "no such file or directory", name)
    return found


def _listed(path: Path, lookup: Lookup, *folders: Path) -> list[Path]:
    """Returns the images of a list; missing images keep the path in the list."""
    lines = opening.read_lines(path, most=opening.LIST_MOST, what="a list of images")
    found = []
    for number, line in enumerate(lines, 1):
        if not (name := line.strip()):
            continue
        picture = lookup.find(name, *folders, path.absolute().parent)
        if picture is None and "." not in Path(name).name:
            # Not quoted: the data file may name any file on this machine.
            raise YolotfError(
                f"{path}: line {number} is not the path of an image; a list has one path per line",
                path=str(path),
                line=number,
            )
        if picture is not None and not picture.is_file():
            opening.check_regular(picture)
        found.append(Path(name) if picture is None else picture)
    if not found:
        raise YolotfError(f"{path}: an empty list; it names one image a line", path=str(path))
    return found


def _difficult(path: Path, lookup: Lookup, like: Fork) -> list[Path | None]:
    """Returns the label files of Darknet's `difficult` list; their images need not exist."""
    lines = opening.read_lines(path, most=opening.LIST_MOST, what="a list of images")
    named = [Path(line.strip()) for line in lines if line.strip()]
    folders = (Path(), *lookup.folders)
    return [
        next((file for one in folders if (file := find_labels(one / name, like))), None)
        for name in named
    ]


def _labelled(
    data: DataFile,
    paths: Sequence[Path],
    names: tuple[str, ...],
    notes: list[str],
    lookup: Lookup,
    like: Fork,
    hard: Sequence[Path | None] = (),
) -> DataSet:
    """Reads the labels of the images."""
    limit = data.classes if data.classes is not None else len(names) or None
    unlabelled: list[Path] = []
    pictures = []
    polygons = 0
    elsewhere: list[tuple[Path, Path]] = []
    for index, path in enumerate(paths):
        file = find_labels(path, like)
        truths = NO_TRUTHS
        if file is None:
            unlabelled.append(path)
        else:
            truths, outlines = read_labels(file, limit)
            polygons += outlines > 0
            if file not in label_places(path, like)[:2]:
                elsewhere.append((path, file))
        difficult = hard[index] if index < len(hard) else None
        spared = NO_TRUTHS if difficult is None else read_labels(difficult, limit).truths
        pictures.append(AnnotatedImage(path, truths, spared))
    if len(unlabelled) == len(paths):
        places = [str(place) for place in label_places(unlabelled[0], like)]
        raise YolotfError(
            f"{data.path}: none of its {plural(len(paths), 'image')} has a label file; those of "
            f"{unlabelled[0]} were looked for at {', '.join(places)}",
            path=str(data.path),
            found=0,
            expected=len(paths),
        )
    notes += lookup.notes()
    notes += _about_repeated(data.path, paths, like)
    if elsewhere:
        picture, file = elsewhere[0]
        notes.append(
            f"{data.path}: labels of {plural(len(elsewhere), 'image')} are where Darknet does "
            f"not look: those of {picture} in {file}"
        )
    if polygons:
        notes.append(
            f"{data.path}: {plural(polygons, 'label file')} with outlines; the boxes around them "
            "are taken"
        )
    found = DataSet(str(data.path), tuple(pictures), names, data.classes, tuple(unlabelled))
    return dataclasses.replace(found, notes=tuple(notes))


def _about_repeated(source: Path, paths: Iterable[Path], like: Fork) -> Iterator[str]:
    counts = Counter(os.path.abspath(path) for path in paths)  # noqa: PTH100 (follows no link)
    repeated = [path for path, count in counts.items() if count > 1]
    if repeated:
        others = f", and {plural(len(repeated) - 1, 'other')} likewise" if len(repeated) > 1 else ""
        ends = "; hank-ai's Darknet refuses the list" if like == "hank-ai" else ""
        yield (
            f"{source}: lists {repeated[0]} {counts[repeated[0]]} times, which counts each "
            f"time{others}{ends}"
        )
