"""Pairs the classes of a data set with those of a network, by name if both have names."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from yolotf._public import renamed
from yolotf.darknet.coco import COCO_NAMES, classes_by_name
from yolotf.errors import YolotfError
from yolotf.evaluation.data_set import DataSet
from yolotf.evaluation.labels import Truths
from yolotf.text import plural

NO_CATEGORY = -1
"""Category id of a class that is not in the COCO file."""


@renamed(names="class_names")
def paired(data: DataSet, class_names: Sequence[str], classes: int | None) -> DataSet:
    """Returns the data set with its classes renumbered to the network's.

    Tools number classes in different orders (Label Studio: alphabetically), so classes are paired
    by name wherever there are names.

    Args:
        data: the data set as read.
        class_names: names of the network's classes; empty if unknown.
        classes: number of the network's classes; None: the number of names.

    Returns:
        The data set with the network's class names and numbers, for a COCO file a category for
        each class, and notes on what was and was not paired.

    Raises:
        YolotfError: no name matches a class of the network; or, without names, the numbers of
            classes differ.
    """
    names = tuple(class_names)
    count = classes or len(names)
    if not names and _is_of_coco(data, count):
        names = COCO_NAMES
        if data.class_names != names:
            note = (
                f"{data.source}: the network's class names are not known; its {count} classes are "
                "taken as COCO's, as those of the data set are; if not, pass class_names=, or "
                "--names"
            )
            data = dataclasses.replace(data, notes=(*data.notes, note))
    if data.coco is not None:
        return _paired_categories(data, names, count)
    return _paired_labels(data, names, count)


def _is_of_coco(data: DataSet, classes: int) -> bool:
    """Whether the network has as many classes as COCO and all classes with labels are COCO's."""
    if classes != len(COCO_NAMES) or not data.class_names:
        return False
    labels = _label_counts(data) if data.coco is not None else np.ones(len(data.class_names))
    class_ids = classes_by_name(data.class_names, COCO_NAMES)
    return bool(labels.any()) and all(
        class_id is not None for class_id, count in zip(class_ids, labels, strict=True) if count
    )


def _label_counts(data: DataSet) -> npt.NDArray[np.int64]:
    """Returns the number of labels of each class."""
    classes = [
        truths.classes for image in data.images for truths in (image.truths, image.difficult)
    ]
    every = np.concatenate([np.zeros(0, np.int64), *classes])
    return np.bincount(every, minlength=len(data.class_names))


def _paired_labels(data: DataSet, names: tuple[str, ...], classes: int) -> DataSet:
    """Pairs labels in Darknet's format, by name if each of its names is one of the network's."""
    class_ids = classes_by_name(data.class_names, names)
    has_other_names = bool(names and data.class_names) and data.class_names != names
    if has_other_names and None not in class_ids:
        return _renumbered_labels(data, names, classes, class_ids)
    count = data.classes if data.classes is not None else len(data.class_names) or None
    if count is not None and count != classes:
        unknown = ""
        if names and None in class_ids:
            # Not the name itself: a data file may point to any file as its class names.
            unknown = f"; the name of its class {class_ids.index(None)} is not one of the network's"
        raise YolotfError(
            f"{data.source}: {plural(count, 'class', 'classes')}, the network has {classes}; the "
            f"data set belongs to another network{unknown}",
            expected=classes,
            found=count,
        )
    notes = data.notes
    if has_other_names:
        pairs = enumerate(zip(data.class_names, names, strict=False))
        differing = next((number for number, (a, b) in pairs if a != b), None)
        if differing is not None:
            note = (
                f"{data.source}: class {differing} has another name there than in the network, "
                f"where it is {names[differing]!r}; classes are paired by number"
            )
            notes = (*notes, note)
    return dataclasses.replace(data, class_names=names or data.class_names, notes=notes)


def _renumbered_labels(
    data: DataSet, names: tuple[str, ...], classes: int, class_ids: Sequence[int | None]
) -> DataSet:
    """Renumbers labels; each class of the data set has a class of the network in `class_ids`."""
    if class_ids == tuple(range(len(names))):
        return dataclasses.replace(data, class_names=names)
    moved = next(number for number, class_id in enumerate(class_ids) if class_id != number)
    note = (
        f"{data.source}: classes are paired with the network's by name: {moved} "
        f"({data.class_names[moved]}) is its class {class_ids[moved]}"
    )
    return dataclasses.replace(
        _renumbered(data, class_ids),
        class_names=names,
        classes=classes,
        notes=(*data.notes, note),
    )


def _paired_categories(data: DataSet, names: tuple[str, ...], classes: int) -> DataSet:
    """Pairs the categories of a COCO file."""
    if names:
        class_ids, notes = _categories_by_name(data, names)
    else:
        class_ids, names, notes = _categories_in_order(data, classes)
    category_of = {
        class_id: category
        for class_id, category in zip(class_ids, data.categories, strict=True)
        if class_id is not None
    }
    categories = tuple(category_of.get(class_id, NO_CATEGORY) for class_id in range(classes))
    absent = categories.count(NO_CATEGORY)
    if absent:
        notes.append(
            f"{data.source}: no category for {absent} of the network's {classes} classes; "
            "Darknet's mean counts them as 0"
        )
    return dataclasses.replace(
        _renumbered(data, class_ids),
        class_names=names,
        classes=classes,
        categories=categories,
        notes=(*data.notes, *notes),
    )


def _categories_by_name(
    data: DataSet, names: tuple[str, ...]
) -> tuple[tuple[int | None, ...], list[str]]:
    """Returns the network's class of each category, and notes.

    Raises:
        YolotfError: no category with labels is a class of the network, or two are the same.
    """
    labels = _label_counts(data)
    class_ids = classes_by_name(data.class_names, names)
    twice = [
        class_id for class_id in class_ids if class_id is not None and class_ids.count(class_id) > 1
    ]
    if twice:
        pairs = zip(data.class_names, class_ids, strict=True)
        same = [name for name, class_id in pairs if class_id == twice[0]]
        raise YolotfError(
            f"{data.source}: the categories {' and '.join(map(repr, same))} are both the "
            f"network's class {names[twice[0]]!r}; give them different names",
            expected=1,
            found=len(same),
        )
    is_unknown = np.array([class_id is None for class_id in class_ids], bool)
    if not labels[~is_unknown].any():
        raise YolotfError(
            f"{data.source}: none of its categories ({_first_names(data.class_names)}) is a class "
            f"of the network ({_first_names(names)}); is it another network's?",
            expected=len(names),
            found=0,
        )
    unknown = [
        name for name, lost in zip(data.class_names, labels * is_unknown, strict=True) if lost
    ]
    notes = []
    if unknown:
        notes.append(
            f"{data.source}: {plural(int(labels[is_unknown].sum()), 'label')} left out, of "
            f"categories that are not classes of the network: {_first_names(unknown)}"
        )
    return class_ids, notes


def _categories_in_order(
    data: DataSet, classes: int
) -> tuple[tuple[int | None, ...], tuple[str, ...], list[str]]:
    """Pairs categories in the order of their ids with the classes of a network without names.

    Returns:
        The network's class of each category, the names of the classes, and notes.

    Raises:
        YolotfError: the numbers of categories and classes differ.
    """
    labels = _label_counts(data)
    every = range(len(data.class_names))
    if len(data.class_names) == classes:
        chosen = [*every]
    else:
        chosen = [number for number in every if labels[number]] or [*every]
    if len(chosen) != classes:
        raise YolotfError(
            f"{data.source}: {plural(len(data.class_names), 'category', 'categories')} for the "
            f"{plural(classes, 'class', 'classes')} of the network, whose names are not known; "
            "pass class_names=, or --names, to pair by name",
            expected=classes,
            found=len(data.class_names),
        )
    class_ids = tuple(chosen.index(number) if number in chosen else None for number in every)
    names = tuple(data.class_names[number] for number in chosen)
    note = (
        f"{data.source}: the network's class names are not known; its categories are taken in "
        f"the order of their ids, {_first_names(names)}; pass class_names=, or --names, to pair by "
        "name"
    )
    return class_ids, names, [note]


def _renumbered(data: DataSet, class_ids: Sequence[int | None]) -> DataSet:
    """Returns the data set with new class numbers; drops labels of classes without one."""
    table = np.full(max(len(_label_counts(data)), len(class_ids)), -1, np.int64)
    for number, class_id in enumerate(class_ids):
        if class_id is not None:
            table[number] = class_id

    def renumbered(truths: Truths) -> Truths:
        classes = table[truths.classes]
        return Truths(classes[classes >= 0], truths.boxes[classes >= 0])

    images = tuple(
        dataclasses.replace(
            image, truths=renumbered(image.truths), difficult=renumbered(image.difficult)
        )
        for image in data.images
    )
    return dataclasses.replace(data, images=images)


def _first_names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{shown}, ... ({len(names)})" if len(names) > 5 else shown
