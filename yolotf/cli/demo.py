"""`yolotf demo`: the official yolov4-tiny through the op into Keras, and two pictures detected."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from yolotf.cli import arguments
from yolotf.cli.demo_data import demo_data
from yolotf.darknet import cfg
from yolotf.serving.detections import Detections
from yolotf.serving.pictures import open_picture

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


def detect(model: Any, network: cfg.Network, picture: Any, names: Iterable[str]) -> Detections:
    """What the Keras model of `network` finds in one picture, by Darknet's rules.

    Args:
        model: from `build_model(network)`, loaded.
        network: whose input size, heads and suppression apply.
        picture: a path, an array or a Pillow image.
        names: of the classes.
    """
    import tensorflow as tf

    from yolotf.graphs import decode
    from yolotf.serving import inference

    mode = "L" if network.input_shape.channels == 1 else "RGB"
    pixels = np.asarray(open_picture(picture).convert(mode), np.uint8)
    images = tf.constant(pixels.reshape(1, *pixels.shape[:2], -1))
    sizes = tf.constant([pixels.shape[:2]])
    input_size = network.input_shape[:2]
    raws = model(inference.fit(images, input_size, letter_box=network.letter_box), training=False)
    found = decode.find_detections(
        raws,
        network,
        input_size,
        score_threshold=SCORE,
        iou_threshold=IOU,
        max_boxes=MAX_BOXES,
        image_sizes=sizes if network.letter_box else None,
    )
    count = int(found.counts[0])
    corners = decode.to_corners(found.boxes[0, :count], pixels.shape[:2])
    return Detections.of(
        corners.numpy(),
        found.scores[0, :count].numpy(),
        found.classes[0, :count].numpy(),
        tuple(names),
    )


def run(folder: str | os.PathLike[str]) -> None:
    """Loads, detects, prints, and writes one annotated picture for each photograph."""
    import tensorflow as tf

    from yolotf import build_model, load_darknet_weights, parse_cfg
    from yolotf.serving.inference import read_names

    data = demo_data()
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    network = parse_cfg(data.cfg)
    print(f"TensorFlow {tf.__version__}; building {network.source}")
    model = build_model(network)
    print(load_darknet_weights(model, data.weights))
    names = read_names(data.names)
    for picture in (data.bus, data.zidane):
        found = detect(model, network, picture, names)
        target = out / picture.name
        found.draw(picture, target)
        print(f"\n{picture.name} -> {target}\n{found}")
