"""Fine-tunes yolov4-tiny from COCO's 80 classes to two classes, and saves it for Darknet.

Takes the first 29 layers of the official yolov4-tiny (`yolov4-tiny.conv.29`, cut from its file),
adds new heads for two classes, trains them with Darknet's loss on random crops of the demo's two
photos, and writes `mine.cfg` and `mine.weights`, which Darknet, OpenCV and `yolotf.Detector` can
read. The detections of the official network serve as labels. Prints how many of the labelled
objects are detected before and after the training.

    yolotf demo                            # leaves weights and photographs in demo-output
    python examples/finetune.py            # --steps 5 for a quick look
"""

from __future__ import annotations

import argparse
from pathlib import Path

import keras
import numpy as np
from PIL import Image

import yolotf

NAMES = ("person", "bus")
SIZE = 320
MAX_BOXES = 16
"""Maximum number of boxes per image."""

Photo = tuple[np.ndarray, np.ndarray]
"""Pixels (RGB), and a row per box: class, center x and y, width, height, relative to the image."""


def labelled(path: Path, detector: yolotf.Detector) -> Photo:
    """Returns a photo, with the detections in it as labels."""
    pixels = np.asarray(Image.open(path).convert("RGB"))
    height, width = pixels.shape[:2]
    detections = detector(pixels)
    boxes = [
        [
            NAMES.index(name),
            (left + right) / 2 / width,
            (top + bottom) / 2 / height,
            (right - left) / width,
            (bottom - top) / height,
        ]
        for name, (left, top, right, bottom) in zip(detections.labels, detections.xyxy, strict=True)
        if name in NAMES
    ]
    return pixels, np.array(boxes, np.float32)


def crop(photo: Photo, random: np.random.Generator) -> Photo:
    """Returns a random crop in the network's size, mirrored with a probability of 0.5."""
    pixels, boxes = photo
    height, width = pixels.shape[:2]
    scale = random.uniform(0.7, 1, 2)
    x, y = random.uniform(0, 1 - scale)
    window = np.round([x * width, y * height, (x + scale[0]) * width, (y + scale[1]) * height])
    cropped = Image.fromarray(pixels).resize((SIZE, SIZE), box=tuple(window))
    image = np.asarray(cropped, np.float32) / 255
    sides = np.concatenate([boxes[:, 1:3] - boxes[:, 3:] / 2, boxes[:, 1:3] + boxes[:, 3:] / 2], 1)
    sides = (sides - [x, y, x, y]) / np.tile(scale, 2)
    inside = np.clip(sides, 0, 1)
    kept = np.prod(inside[:, 2:] - inside[:, :2], 1) > 0.4 * np.prod(sides[:, 2:] - sides[:, :2], 1)
    inside = inside[kept]
    if random.random() < 0.5:
        image = image[:, ::-1]
        inside[:, [0, 2]] = 1 - inside[:, [2, 0]]
    centers = (inside[:, :2] + inside[:, 2:]) / 2
    rows = np.concatenate([boxes[kept, :1], centers, inside[:, 2:] - inside[:, :2]], 1)
    return image, rows


def batch(photos: list[Photo], random: np.random.Generator, count: int) -> Photo:
    """Returns crops, and the boxes in each, padded with rows of zeros."""
    images = np.zeros((count, SIZE, SIZE, 3), np.float32)
    truths = np.zeros((count, MAX_BOXES, 5), np.float32)
    for index in range(count):
        images[index], rows = crop(photos[index % len(photos)], random)
        truths[index, : len(rows)] = rows[:MAX_BOXES]
    return images, truths


def train(model: keras.Model, network: yolotf.Network, photos: list[Photo], steps: int) -> float:
    """Trains the layers that are not frozen, and returns the loss of the last step."""
    random = np.random.default_rng(0)
    rate = keras.optimizers.schedules.CosineDecay(5e-3, steps)
    # Each head has a separate loss; all get the same boxes.
    losses = yolotf.yolo_losses(network)
    model.compile(keras.optimizers.Adam(rate), loss=losses)
    value = float("nan")
    for step in range(steps):
        images, truths = batch(photos, random, 8)
        value = model.train_on_batch(images, [truths] * len(losses), return_dict=True)["loss"]
        model.reset_metrics()
        if step % 20 == 0 or step == steps - 1:
            print(f"step {step:4}  loss {value:8.3f}")
    return float(value)


def count_detected(detector: yolotf.Detector, photos: list[Photo]) -> int:
    """Counts the labelled objects detected with the right class and an IoU of at least 0.5."""
    total = 0
    for pixels, boxes in photos:
        height, width = pixels.shape[:2]
        detections = detector(pixels)
        for label, x, y, w, h in boxes:
            truth = np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
            truth *= [width, height, width, height]
            xyxy = detections.xyxy[detections.classes == int(label)]
            overlaps = np.clip(
                np.minimum(xyxy[:, 2:], truth[2:]) - np.maximum(xyxy[:, :2], truth[:2]), 0, None
            ).prod(1)
            areas = (xyxy[:, 2:] - xyxy[:, :2]).prod(1) + (truth[2:] - truth[:2]).prod()
            total += bool((overlaps / (areas - overlaps) >= 0.5).any())
    return total


def main() -> None:
    """Runs all steps; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--folder", type=Path, default=Path(), help="folder to write to")
    parser.add_argument(
        "--demo",
        type=Path,
        help="folder of `yolotf demo`; by default this one or demo-output in it",
    )
    options = parser.parse_args()
    if options.demo is None:
        here = Path("yolov4-tiny.weights").is_file()
        options.demo = Path() if here else Path("demo-output")
    official = options.demo / "yolov4-tiny.weights"
    if not official.exists():
        parser.error(f"{official} does not exist; `yolotf demo` creates it")
    backbone = options.folder / "yolov4-tiny.conv.29"
    cfg, weights = options.folder / "mine.cfg", options.folder / "mine.weights"
    for path in (backbone, cfg, weights):
        if path.exists():
            parser.error(f"{path} exists; move it, or name another folder with --folder")
    keras.utils.set_random_seed(0)

    # The first 29 layers, as `darknet partial` cuts them.
    whole = yolotf.build_model(yolotf.network("yolov4-tiny"), weights=official)
    yolotf.save_darknet_weights(whole, backbone, upto=29)

    teacher = yolotf.Detector("yolov4-tiny", official, class_names=options.demo / "coco.names")
    photos = [labelled(options.demo / name, teacher) for name in ("bus.jpg", "zidane.jpg")]
    labels = sum(len(boxes) for _, boxes in photos)

    network = yolotf.network("yolov4-tiny", classes=len(NAMES), size=SIZE)
    model = yolotf.build_model(network)
    report = yolotf.load_darknet_weights(model, backbone)
    print(report)
    # Freeze the layers loaded from the file, their batch normalization included.
    for layer in model.layers:
        layer.trainable = layer.name.removesuffix("_bn") not in report.loaded
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9  # 0.99 would hardly change in a few hundred steps

    cfg.write_text(network.to_cfg(), encoding="utf-8")
    yolotf.save_darknet_weights(model, weights)
    before = count_detected(yolotf.Detector(cfg, weights, class_names=NAMES), photos)

    train(model, network, photos, options.steps)

    size = yolotf.save_darknet_weights(model, weights, seen=8 * options.steps)
    print(f"{cfg} and {weights}, {size:,} bytes")
    after = count_detected(yolotf.Detector(cfg, weights, class_names=NAMES), photos)
    print(f"of {labels} labelled objects, {before} were detected before and {after} after")


if __name__ == "__main__":
    main()
