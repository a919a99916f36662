"""`yolotf classify`: what pictures are of."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from yolotf.cli.detect import PICTURES
from yolotf.darknet import stock as networks
from yolotf.serving.classifier import Classifier


def run(parsed: argparse.Namespace) -> int:
    """The command `yolotf classify`: 0, or 2 if there was something it could not read."""
    network = networks.find(parsed.cfg)
    if parsed.size is not None:
        network = network.resized(parsed.size)
    Path(parsed.weights).stat()  # before anything slow
    classifier = Classifier(network, parsed.weights, names=parsed.names)
    unreadable = 0
    for path in _inputs(parsed.inputs):
        try:
            found = classifier(path, top=parsed.top)
        except (OSError, ValueError) as error:
            unreadable += 1
            reason = str(error).removeprefix(f"{path}: ")
            if isinstance(error, OSError) and error.strerror:
                reason = error.strerror.lower()
            print(f"yolotf: {path}: {reason}", file=sys.stderr)
            if parsed.json:
                print(json.dumps({"path": str(path), "error": reason}), flush=True)
            continue
        if parsed.json:
            print(json.dumps({"path": str(path), **found.to_dict()}, allow_nan=False), flush=True)
        else:
            print(f"{path}\n{found}\n", flush=True)
    return 2 if unreadable else 0


def _inputs(given: list[str]) -> list[Path]:
    """Files as given, of folders the pictures in them, by name."""
    found: list[Path] = []
    for path in map(Path, given):
        inside = sorted(path.iterdir()) if path.is_dir() else []
        # An empty folder is something that could not be read, and reported as such.
        found += [one for one in inside if one.suffix.lower() in PICTURES] or [path]
    return found
