"""Pairs a data set's classes with a network's, by name wherever both have names."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

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

    Tools number classes in different orders (Label Studio: alphabetically), so numbers mean
    nothing where there are names.

    Args:
        data: the data set as read.
        class_names: names of the network's classes; empty if unknown.
        classes: number of the network's classes; None: the number of names.

    Returns:
        The data set with the network's names and classes, a category for each class, and notes on
        what was paired and what was not.

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
                "taken as COCO's, as these are; give the names (--names) if they are others"
            )
            data = dataclasses.replace(data, notes=(*data.notes, note))
    if data.coco is not None:
        return _paired_categories(data, names, count)
    return _paired_labels(data, names, count)


def _is_of_coco(data: DataSet, classes: int) -> bool:
    """Whether all class names with labels are COCO's and the network has as many classes."""
    if classes != len(COCO_NAMES) or not data.class_names:
        return False
    used = _used(data) if data.coco is not None else np.ones(len(data.class_names), np.int64)
    found = classes_by_name(data.class_names, COCO_NAMES)
    return bool(used.any()) and all(
        number is not None for number, labels in zip(found, used, strict=True) if labels
    )


def _used(data: DataSet) -> npt.NDArray[np.int64]:
    """Returns the number of labels of each class."""
    numbers = [part.classes for one in data.images for part in (one.truths, one.difficult)]
    every = np.concatenate([np.zeros(0, np.int64), *numbers])
    return np.bincount(every, minlength=len(data.class_names))


def _paired_labels(data: DataSet, names: tuple[str, ...], classes: int) -> DataSet:
    """Pairs labels in Darknet's format, whose names may disagree with the network's numbers."""
    if names and data.class_names and data.class_names != names:
        found = classes_by_name(data.class_names, names)
        if None not in found:
            if found == tuple(range(len(names))):
                return dataclasses.replace(data, class_names=names)
            number = next(place for place, other in enumerate(found) if other != place)
            note = (
                f"{data.source}: classes are paired with the network's by name: {number} "
                f"({data.class_names[number]}) is its class {found[number]}"
            )
            renumbered = _renumbered(data, {a: b for a, b in enumerate(found) if b is not None})
            return dataclasses.replace(
                renumbered, class_names=names, classes=classes, notes=(*data.notes, note)
            )
    said = data.classes if data.classes is not None else len(data.class_names) or None
    if said is not None and said != classes:
        # By its number: the file of names may be any that a stranger's data file points to.
        found = classes_by_name(data.class_names, names)
        which = ""
        if names and None in found:
            which = f"; the name of its class {found.index(None)} is not one of the network's"
        raise YolotfError(
            f"{data.source}: {plural(said, 'class', 'classes')}, the network has {classes}; the "
            f"data set belongs to another network{which}",
            expected=classes,
            found=said,
        )
    notes = data.notes
    if names and data.class_names and data.class_names != names:
        pairs = enumerate(zip(data.class_names, names, strict=True))
        place = next(number for number, (a, b) in pairs if a != b)
        notes = (
            *notes,
            f"{data.source}: class {place} has another name there than in the network, where it "
            f"is {names[place]!r}; classes are paired by number",
        )
    return dataclasses.replace(data, class_names=names or data.class_names, notes=notes)


def _paired_categories(data: DataSet, names: tuple[str, ...], classes: int) -> DataSet:
    """Pairs the categories of a COCO file."""
    used = _used(data)
    notes: list[str] = []
    if names:
        found = classes_by_name(data.class_names, names)
        twice = [n for n in found if n is not None and found.count(n) > 1]
        if twice:
            same = [name for name, n in zip(data.class_names, found, strict=True) if n == twice[0]]
            raise YolotfError(
                f"{data.source}: the categories {' and '.join(map(repr, same))} are both the "
                f"network's class {names[twice[0]]!r}; name them apart",
                expected=1,
                found=len(same),
            )
        unknown = [
            place for place, number in enumerate(found) if number is None and used[place] > 0
        ]
        if not any(number is not None and used[n] for n, number in enumerate(found)):
            raise YolotfError(
                f"{data.source}: none of its categories ({_some(data.class_names)}) is a class of "
                f"the network ({_some(names)}); is it another network's?",
                expected=len(names),
                found=0,
            )
        if unknown:
            labels = int(used[unknown].sum())
            notes.append(
                f"{data.source}: {plural(labels, 'label')} left out, of categories that are not "
                f"classes of the network: {_some([data.class_names[n] for n in unknown])}"
            )
    else:
        places = [n for n in range(len(data.class_names)) if used[n]] or [
            *range(len(data.class_names))
        ]
        if len(data.class_names) == classes:
            places = [*range(classes)]
        if len(places) != classes:
            raise YolotfError(
                f"{data.source}: {plural(len(data.class_names), 'category', 'categories')} for the "
                f"{plural(classes, 'class', 'classes')} of the network, whose names are not known; "
                "give them (--names, class_names=) to pair by name",
                expected=classes,
                found=len(data.class_names),
            )
        found = tuple(
            places.index(n) if n in places else None for n in range(len(data.class_names))
        )
        names = tuple(data.class_names[n] for n in places)
        notes.append(
            f"{data.source}: the network's class names are not known; its categories are taken in "
            f"the order of their ids, {_some(names)}; give the names (--names) to pair by name"
        )
    numbers = {place: number for place, number in enumerate(found) if number is not None}
    category_of = {number: data.categories[place] for place, number in numbers.items()}
    categories = tuple(category_of.get(number, NO_CATEGORY) for number in range(classes))
    absent = categories.count(NO_CATEGORY)
    if absent:
        notes.append(
            f"{data.source}: has no category for {absent} of the network's {classes} classes; "
            "Darknet's mean counts them as 0"
        )
    return dataclasses.replace(
        _renumbered(data, numbers),
        class_names=names,
        classes=classes,
        categories=categories,
        notes=(*data.notes, *notes),
    )


def _renumbered(data: DataSet, numbers: Mapping[int, int]) -> DataSet:
    """Renumbers the classes; drops labels of classes without a new number."""
    table = np.full(max(len(_used(data)), len(numbers)), -1, np.int64)
    for given, number in numbers.items():
        table[given] = number

    def of(truths: Truths) -> Truths:
        classes = table[truths.classes]
        return Truths(classes[classes >= 0], truths.boxes[classes >= 0])

    pictures = tuple(
        dataclasses.replace(one, truths=of(one.truths), difficult=of(one.difficult))
        for one in data.images
    )
    return dataclasses.replace(data, images=pictures)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{shown}, ... ({len(names)})" if len(names) > 5 else shown
