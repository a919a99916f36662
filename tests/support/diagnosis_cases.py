"""Mismatched files, and networks changed in one place; shared by tests and the benchmark."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from support import helpers, weights_files
from yolotf.cli.demo_data import demo_data
from yolotf.darknet import cfg
from yolotf.errors import YolotfError
from yolotf.weights import catalog as _known
from yolotf.weights import layout


def reports() -> list[dict[str, Any]]:
    """Returns mismatches that users reported: a recipe for the file, the model, and the causes."""
    recipes: list[dict[str, Any]] = helpers.shared_json("corpus/reports.json")
    return recipes


def report_network(recipe: dict[str, Any]) -> cfg.Network:
    """Returns the network of a file or model in a report."""
    network = cfg.parse_cfg(helpers.SHARED / "cfg" / f"{recipe['cfg']}.cfg")
    if recipe.get("classes") and network.heads:
        network = network.with_classes(recipe["classes"])
    if recipe.get("channels"):
        network = network.resized(channels=recipe["channels"])
    return small_objects(network) if recipe.get("variant") == "small_object" else network


def small_objects(network: cfg.Network) -> cfg.Network:
    """Applies AlexeyAB's recipe for small objects: route 54 becomes 23, strides near it 4."""
    sections = list(network.sections)
    route = next(
        index
        for index, section in enumerate(sections)
        if section.name == "route" and (layers := section.option("layers")) and layers.value == "54"
    )
    sections[route] = sections[route].with_option("layers", 23)
    before = max(i for i in range(route) if sections[i].name == "upsample")
    after = min(
        i
        for i in range(route, len(sections))
        if (stride := sections[i].option("stride")) and stride.value == "2"
    )
    for index in (before, after):
        sections[index] = sections[index].with_option("stride", 4)
    return cfg.resolve(sections, source=network.source)


def write_report_file(recipe: dict[str, Any], path: Path) -> Path:
    """Writes the file of a report; only the number of its floats matters."""
    if recipe.get("bytes") == "git_lfs_pointer":
        size = recipe.get("pointer_size", 123_456)
        oid = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393"
        path.write_text(
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n"
        )
        return path
    if recipe.get("bytes") == "html":
        path.write_text("<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>\n")
        return path
    segments = layout.segments(report_network(recipe))
    cut = recipe.get("truncate_layers")
    end = max(segment.end for segment in segments if cut is None or segment.layer < cut)
    header = weights_files.HEADER if recipe["header_bytes"] == 20 else weights_files.NARROW
    return weights_files.write_zeros(path, len(header) + end, header)


def has_fields(cause: Any, expected: dict[str, Any]) -> bool:
    """Returns whether a cause has all expected fields; any name of the same network counts."""
    for key, value in expected.items():
        allowed = [value]
        if cause["kind"] == "architecture" and key == "file":
            allowed += [name for k in _known.table() if value in k.names for name in k.names]
        if cause.get(key) not in allowed:
            return False
    return True


def pairs() -> list[tuple[Path, Path]]:
    """Returns (weights, cfg) of real trained networks."""
    folder = helpers.SHARED / "corpus/pairs"
    return [(path, path.with_suffix(".cfg")) for path in sorted(folder.glob("*.weights"))]


def official_pair() -> tuple[Path, Path]:
    """Returns the official yolov4-tiny, which is larger than the pairs."""
    data = demo_data()
    return data.weights, data.cfg


class Edited(NamedTuple):
    """A network changed in one place."""

    change: str
    network: cfg.Network
    layer: int
    """The first layer that stores something else than before."""
    seen: bool
    """Whether this layer or a later one has batch normalization, before or after the change."""


def single_edits(network: cfg.Network, shuffle: random.Random | None = None) -> Iterator[Edited]:
    """Yields every single change of filters, size, groups, batch_normalize, route and classes.

    Changes that make the cfg invalid, or do not change the layout of the file, are left out. They
    come in the order of the cfg, or in random order.
    """
    stored = _stored(network)
    layouts_seen: set[tuple[tuple[int, str, int], ...]] = {stored}
    edits: Iterable[tuple[str, list[cfg.Section]]] = _edits(network)
    if shuffle:
        edits = shuffle.sample(listed := list(edits), len(listed))
    for change, sections in edits:
        try:
            edited = cfg.resolve(sections, source=network.source)
            changed = _stored(edited)
        except YolotfError:
            continue
        if changed in layouts_seen or len(changed) < 1:
            continue
        layouts_seen.add(changed)
        layer = next(
            (new[0] for old, new in zip(stored, changed, strict=False) if old != new),
            changed[min(len(stored), len(changed)) - 1][0],
        )
        norms = [index for index, role, _ in stored + changed if role == "moving_variance"]
        yield Edited(change, edited, layer, seen=layer <= max(norms, default=-1))


def _stored(network: cfg.Network) -> tuple[tuple[int, str, int], ...]:
    return tuple((s.layer, s.role, s.count) for s in layout.segments(network))


def _edits(network: cfg.Network) -> Iterator[tuple[str, list[cfg.Section]]]:
    sections = list(network.sections)

    def edit(index: int, key: str, value: object) -> tuple[str, list[cfg.Section]]:
        changed = list(sections)
        changed[index + 1] = changed[index + 1].with_option(key, value)
        return f"{changed[index + 1].name} {index} {key}={value}", changed

    for layer in network.layers:
        if isinstance(layer, cfg.Convolutional):
            filters = layer.filters
            values = {2 * filters, filters // 2, filters + 1, filters - 1, filters + 8, 3 * filters}
            for value in sorted(values - {filters, 0}):
                yield edit(layer.index, "filters", value)
            for value in sorted({1, 3, 5, 7} - {layer.size}):
                yield edit(layer.index, "size", value)
            channels = layer.input_shape.channels
            for value in sorted({1, 2, 4, filters, channels} - {layer.groups}):
                yield edit(layer.index, "groups", value)
            yield edit(layer.index, "batch_normalize", int(not layer.batch_normalize))
        elif isinstance(layer, cfg.Route):
            for value in sorted({1, 2, 4} - {layer.groups}):
                yield edit(layer.index, "groups", value)
            for inputs in _references(layer):
                yield edit(layer.index, "layers", ",".join(map(str, inputs)))
    for classes in (1, 2, 3, 20, 79, 80, 81):
        if network.heads and classes != network.classes:
            yield f"classes={classes}", list(network.with_classes(classes).sections)


def _references(route: cfg.Route) -> list[tuple[int, ...]]:
    """Yields changes of one reference: replaced by another, removed, or added."""
    references = {(*route.inputs, other) for other in range(route.index)}
    for number, other in itertools.product(range(len(route.inputs)), range(route.index)):
        rest = route.inputs[:number], route.inputs[number + 1 :]
        references |= {(*rest[0], other, *rest[1]), (*rest[0], *rest[1])}
    return sorted(references - {(), route.inputs})
