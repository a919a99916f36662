"""`yolotf demo`: the official yolov4-tiny through the op into Keras, then a `Detector` on it."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from yolotf.cli import arguments
from yolotf.cli.demo_data import demo_data

SCORE, IOU, MAX_BOXES = 0.25, 0.45, 200
"""Darknet's `detect` draws above 0.25 and suppresses at 0.45 (detector.c:1625, 1679)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("-o", "--output", default="demo-output", help="folder for the pictures")


def main(parsed: argparse.Namespace) -> int:
    """The command; returns its exit code."""
    with arguments.quiet():
        run(parsed.output)
    return 0


def run(folder: str | os.PathLike[str]) -> None:
    """Loads, detects, prints, and writes one annotated picture for each photograph."""
    import tensorflow as tf

    from yolotf import Detector, build_model, load_darknet_weights, parse_cfg

    data = demo_data()
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    network = parse_cfg(data.cfg)
    print(f"TensorFlow {tf.__version__}; building {network.source}")
    model = build_model(network)
    print(load_darknet_weights(model, data.weights))
    detector = Detector(
        network, data.weights, names=data.names, score=SCORE, iou=IOU, max_boxes=MAX_BOXES
    )
    for picture in (data.bus, data.zidane):
        found = detector(picture)
        target = out / picture.name
        found.draw(picture, target)
        print(f"\n{picture.name} -> {target}\n{found}")
