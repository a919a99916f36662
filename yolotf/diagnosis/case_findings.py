"""Causes for a file and the network it is compared with, which several explanations report."""

from __future__ import annotations

import re

from yolotf.darknet.python_call import python_call
from yolotf.diagnosis import causes as findings
from yolotf.diagnosis.causes import Finding
from yolotf.diagnosis.edit import Edit
from yolotf.diagnosis.target import Case, Place
from yolotf.text import plural


def truncated(case: Case, place: Place | None, *, cut: bool) -> Finding:
    """Returns the cause for a file that ends inside `place`, or inside the header if None."""
    where = "inside the header"
    if place and case.file.size_bytes >= case.file.header.size_bytes:
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
    training = ""
    is_of_model = case.subject.has_lines and not any(head.line for head in network.heads)
    if network.heads and network.classes is not None and not is_of_model:
        training = (
            f"to train with {plural(network.classes, 'class', 'classes')}, load all layers but "
            "those right before the heads, yolotf.load_darknet_weights(model, file, "
            f"network={python_call(network, classes)})"
        )
    return findings.ClassCount(
        path=case.file.name,
        file=classes,
        model=network.classes,
        source=case.subject.source,
        remedy=remedy,
        training=training,
        other_networks=other_networks,
    )


def classifier_classes(case: Case, edit: Edit) -> Finding:
    """Returns the cause for another number of classes of a network without heads."""
    subject, classes = case.subject, edit.file[0]
    network = subject.network
    layer = network.layers[edit.layer]
    key = layer.channels_key or "filters"
    line = subject.line(layer)
    is_of_model = subject.has_lines and not line
    takes_classes = network.class_layer is layer and not is_of_model
    remedy = training = ""
    if takes_classes:
        training = (
            f"to train with {plural(edit.model[0], 'class', 'classes')}, load the other layers, "
            "yolotf.load_darknet_weights(model, file, "
            f"network={python_call(network, classes)}, skip_mismatch=True)"
        )
    if line:
        remedy = f"set {key}={classes} in {subject.at(layer, key)}"
    elif is_of_model:
        remedy = f"build the model with {classes} outputs in {subject.where(layer.index)}"
    return findings.ClassCount(
        path=case.file.name,
        file=classes,
        model=edit.model[0],
        source=subject.source,
        remedy=remedy,
        training=training,
        argument=findings.TAKES_CLASSES if takes_classes else None,
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
