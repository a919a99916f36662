"""Finds a network's files from its cfg, as the tools of hank-ai's Darknet do."""

from __future__ import annotations

import argparse
from pathlib import Path

from yolotf.cli import arguments
from yolotf.darknet.class_names import read_names, stock_names
from yolotf.darknet.network import Network
from yolotf.text import plural

WEIGHTS = ("_best.weights", ".weights", "_final.weights", "_last.weights")
"""Suffixes of the files that training writes for `animals.cfg`, by priority (darknet.cpp:560)."""
_NAMES = (".names", ".data")
_OPTIONS = {".cfg": "cfg", ".weights": "weights", ".names": "names", ".data": "names"}


def complete(parsed: argparse.Namespace) -> None:
    """Fills in `parsed.cfg` and `parsed.weights`; prints a note on a file that it chose.

    Inputs that end in .cfg, .weights, .names or .data are taken as the network's files, in any
    order; so is `animals`, if there is no such file but `animals.cfg` exists.

    Exits with argparse's error if a file is neither given nor found beside the cfg.
    """
    if "inputs" in parsed:
        parsed.inputs = [name for name in parsed.inputs if not _is_taken(parsed, name)]
        _take_stem(parsed)
    missing = [] if parsed.cfg else ["--cfg"]
    if parsed.cfg and not parsed.weights:
        parsed.weights = weights_beside(parsed.cfg)
        if parsed.weights is None:
            missing.append("--weights")
        else:
            arguments.note(f"weights: {parsed.weights}, beside {parsed.cfg}")
    elif not parsed.weights:
        missing.append("--weights")
    if "inputs" in parsed and not parsed.inputs:
        missing.append("IMAGE")
    if missing:
        parsed.parser.error(f"the following arguments are required: {', '.join(missing)}")


def _is_taken(parsed: argparse.Namespace, name: str) -> bool:
    """Stores an input as a network file if its option was not given; returns whether it did."""
    option = _OPTIONS.get(Path(name).suffix.lower())
    if option is None or getattr(parsed, option) is not None or not Path(name).is_file():
        return False
    setattr(parsed, option, name)
    return True


def _take_stem(parsed: argparse.Namespace) -> None:
    """Stores the cfg of the first input that is the name of a cfg without its ending."""
    for name in parsed.inputs if parsed.cfg is None else ():
        cfg = f"{name}.cfg"
        if not Path(name).exists() and Path(cfg).is_file():
            parsed.cfg = cfg
            parsed.inputs.remove(name)
            arguments.note(f"cfg: {cfg}")
            return


def complete_file(parsed: argparse.Namespace) -> None:
    """Fills in `parsed.file`, the weights, from beside the cfg; takes a .cfg in its place.

    Exits with argparse's error if the weights are neither given nor found.
    """
    if not parsed.cfg and parsed.file and _is_cfg(parsed.file):
        parsed.cfg, parsed.file = parsed.file, None
    if parsed.file is not None:
        return
    parsed.file = weights_beside(parsed.cfg) if parsed.cfg else None
    if parsed.file is None:
        parsed.parser.error("the following arguments are required: FILE")
    arguments.note(f"weights: {parsed.file}, beside {parsed.cfg}")


def _is_cfg(name: str) -> bool:
    return Path(name).suffix.lower() == ".cfg" and Path(name).is_file()


def weights_beside(cfg: str) -> str | None:
    """Returns the weights beside a cfg, `animals_best.weights` first; None if there are none."""
    path = Path(cfg)
    if not path.is_file():
        return None
    candidates = (path.with_name(f"{path.stem}{suffix}") for suffix in WEIGHTS)
    return next((str(candidate) for candidate in candidates if candidate.is_file()), None)


def names_of(parsed: argparse.Namespace, network: Network) -> str | tuple[str, ...] | None:
    """Returns the names of `--names`, COCO's for a stock network, or those beside the cfg."""
    if parsed.names is not None:
        return str(parsed.names)
    if (stock := stock_names(network)) is not None:
        return stock
    path = Path(parsed.cfg)
    for suffix in _NAMES if path.is_file() else ():
        beside = path.with_suffix(suffix)
        if not beside.is_file():
            continue
        names = read_names(beside)
        if network.classes is not None and len(names) != network.classes:
            arguments.note(
                f"{beside} has {plural(len(names), 'name')}, {parsed.cfg} has {network.classes} "
                "classes; the names are not used"
            )
            continue
        arguments.note(f"names: {beside}, beside {parsed.cfg}")
        parsed.names = str(beside)
        return str(beside)
    return None
