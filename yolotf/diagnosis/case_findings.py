"""Causes for a file and the network it is compared with, which several explanations report."""

from __future__ import annotations

import re

from yolotf.diagnosis import causes as findings
from yolotf.diagnosis.causes import Finding
from yolotf.diagnosis.edit import Edit
from yolotf.diagnosis.target import Case, Place


def truncated(case: Case, place: Place | None, *, cut: bool) -> Finding:
    """Returns the cause for a file that ends inside `place`, or inside the header if None."""
    where = "inside the header"
    if place and case.file.size_bytes >= case.header.size_bytes:
        where = f"in the {place.role} of {case.subject.where(place.layer)}"
    return findings.Truncated(
        path=case.file.name,
        at=case.file.size_bytes,
        expected=case.expected_bytes,
        layer=place.layer if place else None,
        where=where,
        cut=cut,
    )


def class_count(case: Case, classes: int, other_networks: str) -> Finding:
    """Returns the cause for another number of classes of a network with heads."""
    network = case.subject.network
    remedy = ""
    if case.subject.has_lines and network.heads:
        heads = network.convolutions_of_heads
        filters = sorted({head.filters_for(classes) for _, head in heads})
        remedy = (
            f"set classes={classes} in "
            f"{case.subject.lines((head, 'classes') for _, head in heads)} and filters="
            f"{' or '.join(map(str, filters))} in "
            f"{case.subject.lines((before, 'filters') for before, _ in heads)}"
        )
    return findings.ClassCount(
        path=case.file.name,
        file=classes,
        model=network.classes,
        source=case.subject.source,
        remedy=remedy,
        other_networks=other_networks,
    )


def classifier_classes(case: Case, edit: Edit) -> Finding:
    """Returns the cause for another number of classes of a network without heads."""
    subject, classes = case.subject, edit.file[0]
    layer = subject.network.layers[edit.layer]
    key = layer.channels_key or "filters"
    if not subject.has_lines:
        remedy = ""
    elif subject.line(layer):
        remedy = f"set {key}={classes} in {subject.at(layer, key)}"
    else:
        remedy = f"build the model with {classes} outputs in {subject.where(layer.index)}"
    return findings.ClassCount(
        path=case.file.name,
        file=classes,
        model=edit.model[0],
        source=subject.source,
        remedy=remedy,
        argument=None if remedy else findings.TAKES_CLASSES,
    )


def channels(case: Case, channels: int) -> Finding:
    """Returns the cause for another number of image channels."""
    network = case.subject.network
    option = network.net.option("channels")
    return findings.Channels(
        path=case.file.name,
        file=channels,
        model=network.input_shape.channels,
        source=case.subject.source,
        at=f"{case.subject.source}:{option.line}" if option and case.subject.has_lines else "",
    )


def partial_backbone(case: Case, fewest: int, most: int, name: str | None = None) -> Finding:
    """Returns the cause for a file of the first layers, of which there are `fewest` to `most`."""
    # Layers that store nothing make the number ambiguous; the file's name usually ends in it.
    ending = re.search(r"\.(\d{1,9})$", case.file.path)
    layers = int(ending[1]) if ending and fewest <= int(ending[1]) <= most else fewest
    of = name or f"the {len(case.subject.network.layers)} of {case.subject.source}"
    return findings.PartialBackbone(path=case.file.name, layers=layers, of=of)


def layer_shape(
    case: Case,
    index: int,
    problem: str,
    remedy: str,
    floats: int,
    *,
    line: int | None = None,
    layers: tuple[int, ...] | None = None,
    change: str | None = None,
) -> Finding:
    """Returns the cause for a layer that is different in the file."""
    layer = case.subject.network.layers[index]
    return findings.LayerShape(
        path=case.file.name,
        layer=layer.index,
        section=layer.type,
        cfg_line=line if line is not None else case.subject.line(layer),
        file_floats_minus_model=floats,
        layers=None if layers is None else list(layers),
        change=change,
        where="" if change == "missing" else case.subject.where(layer.index),
        problem=problem,
        remedy=remedy,
    )


def displaced(
    case: Case, place: Place | None, problem: str, floats: int, layers: tuple[int, int]
) -> Finding:
    """Returns the cause for a layer that is at another position in the file."""
    return layer_shape(
        case,
        place.layer if place else 0,
        f"is not in its place in the file: {problem}",
        "use the cfg it was trained with, or write the file again in this cfg's order",
        floats,
        layers=layers,
    )
