"""Generates the data file of `catalog` from a folder of cfgs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from yolotf.darknet import cfg
from yolotf.errors import YolotfError
from yolotf.weights import layout
from yolotf.weights.catalog import TABLE_CLASSES, HeadRow, layer_floats, rank
from yolotf.weights.head_decoding import decoding_of


def build(networks: Iterable[cfg.Network]) -> dict[str, Any]:
    """Computes the contents of the data file; networks without weights are left out."""
    entries: dict[str, dict[str, Any]] = {}
    for network in sorted(networks, key=lambda network: (rank(_stem(network)), _stem(network))):
        classes = network.classes
        heads: list[HeadRow] = []
        try:
            if network.heads:  # a classifier's class count is fixed in the table
                network = network.with_classes(TABLE_CLASSES)
        except YolotfError:
            classes = None  # [detection]: the class count is fixed
        else:
            heads = [
                HeadRow(head.index - 1, len(head.anchors), head.coords) for head in network.heads
            ]
        rows = layer_floats(layout.segments(network))
        if not rows:
            continue
        inputs = [
            (row.layer, row.kernel // network.input_shape.channels)
            for row in rows
            if row.filters and network.layers[row.layer].inputs == (cfg.NETWORK_INPUT,)
        ]
        floats = [
            number
            for row in rows
            for number in (
                row.layer,
                row.filters if row.batch_normalize else -row.filters,
                row.kernel,
            )
        ]
        decoding = decoding_of(network)
        body = {
            "heads": heads,
            "inputs": inputs,
            "layers": len(network.layers),
            "floats": floats,
        }
        key = json.dumps([heads, inputs, floats])
        entry = entries.setdefault(key, {"names": {}, **body, "decoding": {}})
        entry["names"][_stem(network)] = classes
        if decoding:
            entry["decoding"][_stem(network)] = decoding
    return {"networks": list(entries.values())}


def _stem(network: cfg.Network) -> str:
    return network.source.removesuffix(".cfg")


def dump(contents: dict[str, Any]) -> str:
    """Returns the text of the data file, a network per line."""
    lines = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in contents["networks"])
    return '{"networks": [\n' + lines + "\n]}\n"


def read_folder(folder: Path) -> Iterator[cfg.Network]:
    """Parses the cfgs in `folder`; skips those that cannot be read or whose size is undefined."""
    for path in sorted(folder.glob("*.cfg")):
        try:
            network = cfg.parse_cfg(path, dialect="alexeyab")  # the fork they were trained with
            layout.segments(network)
        except YolotfError:
            continue
        yield network


if __name__ == "__main__":
    sys.stdout.write(dump(build(read_folder(Path(sys.argv[1])))))
