"""From COCO's 80 classes to two of your own, and back to Darknet.

Takes the official yolov4-tiny, builds the same network for two classes, loads everything but the
heads, trains it for a minute on pictures it draws itself (discs and squares on noise), writes
`shapes.cfg` and `shapes.weights`, and lets OpenCV, which knows nothing of TensorFlow, find the
shapes in a picture that was not trained on.

    yolotf demo                            # leaves yolov4-tiny.weights in demo-output
    python examples/finetune.py            # --steps 5 for a quick look

Needs opencv-python(-headless) below version 5, whose importer still reads Darknet's files.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import tensorflow as tf

import yolotf

NAMES = ("disc", "square")
SIZE = 160


def draw(random: np.random.Generator, shapes: int = 2) -> tuple[np.ndarray, list[list[float]]]:
    """A picture, RGB in 0..1, and its (class, centre x, centre y, width, height), relative."""
    picture = random.uniform(0, 0.5, (SIZE, SIZE, 3)).astype(np.float32)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    boxes: list[list[float]] = []
    # Side by side, so that no shape hides another.
    for left in range(0, SIZE, SIZE // shapes):
        label = int(random.integers(2))
        radius = random.uniform(14, SIZE / shapes / 2 - 4)
        x = random.uniform(left + radius, left + SIZE / shapes - radius)
        y = random.uniform(radius, SIZE - radius)
        if label == 0:
            inside = (columns - x) ** 2 + (rows - y) ** 2 <= radius**2
        else:
            inside = np.maximum(abs(columns - x), abs(rows - y)) <= radius
        picture[inside] = random.uniform(0.6, 1, 3)
        boxes.append([label, x / SIZE, y / SIZE, 2 * radius / SIZE, 2 * radius / SIZE])
    return picture, boxes


def targets(boxes: list[list[float]], network: yolotf.Network) -> list[np.ndarray]:
    """What the raw heads should say: [rows, columns, anchors, x y w h, object, classes] each.

    Every shape belongs to the anchor most like it, in the cell its centre is in.
    """
    found = [
        np.zeros((*head.input_shape[:2], len(head.anchors), 5 + head.classes), np.float32)
        for head in network.heads
    ]
    for label, x, y, width, height in boxes:
        box = np.array([width, height]) * SIZE

        def likeness(anchor: tuple[float, float], box: np.ndarray = box) -> float:
            overlap = np.minimum(anchor, box).prod()
            return overlap / (np.prod(anchor) + box.prod() - overlap)

        _, which, index = max(
            (likeness(anchor), which, index)
            for which, head in enumerate(network.heads)
            for index, anchor in enumerate(head.anchors)
        )
        rows, columns = found[which].shape[:2]
        row, column = int(y * rows), int(x * columns)
        cell = found[which][row, column, index]
        size = np.log(box / network.heads[which].anchors[index])
        cell[:5] = (x * columns - column, y * rows - row, *size, 1)
        cell[5 + int(label)] = 1
    return found


def loss(raws: list[tf.Tensor], wanted: list[tf.Tensor], network: yolotf.Network) -> tf.Tensor:
    """Binary cross-entropy for object and class, squares for the box, per picture."""
    total = 0.0
    for head, raw, target in zip(network.heads, raws, wanted, strict=True):
        raw = tf.reshape(raw, tf.shape(target))
        there = target[..., 4:5]
        # The cfg stretches the sigmoid a little, so that a centre can lie on a cell's edge.
        centre = tf.sigmoid(raw[..., :2]) * head.scale_x_y - 0.5 * (head.scale_x_y - 1)
        box = tf.concat([centre, raw[..., 2:4]], -1)
        total += 2.0 * tf.reduce_sum(there * tf.square(box - target[..., :4]))
        surprise = tf.nn.sigmoid_cross_entropy_with_logits(target[..., 4:], raw[..., 4:])
        total += tf.reduce_sum(surprise[..., :1]) + tf.reduce_sum(there * surprise[..., 1:])
    return total / tf.cast(tf.shape(raws[0])[0], tf.float32)


def train(model: tf.keras.Model, network: yolotf.Network, steps: int, batch: int = 8) -> float:
    """Trains on fresh pictures; the loss of the last step."""
    random = np.random.default_rng(0)
    optimizer = tf.keras.optimizers.Adam(tf.keras.optimizers.schedules.CosineDecay(2e-3, steps))

    @tf.function
    def step(pictures: tf.Tensor, wanted: list[tf.Tensor]) -> tf.Tensor:
        with tf.GradientTape() as tape:
            # Batch norms keep COCO's statistics: a few small batches have none to speak of.
            value = loss(model(pictures, training=False), wanted, network)
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(value, variables), variables, strict=True))
        return value

    value = float("nan")
    for number in range(steps):
        drawn = [draw(random) for _ in range(batch)]
        pictures = tf.constant(np.stack([picture for picture, _ in drawn]))
        each = [targets(boxes, network) for _, boxes in drawn]
        value = float(
            step(pictures, [tf.constant(np.stack(one)) for one in zip(*each, strict=True)])
        )
        if number % 20 == 0 or number == steps - 1:
            print(f"step {number:4}  loss {value:8.3f}")
    return value


def detect(cfg: Path, weights: Path, picture: np.ndarray) -> list[tuple[str, float, np.ndarray]]:
    """What OpenCV finds with the files: (name, score, box in pixels), best first."""
    model = cv2.dnn.DetectionModel(cv2.dnn.readNetFromDarknet(str(cfg), str(weights)))
    model.setInputParams(1 / 255, (SIZE, SIZE), swapRB=False)
    classes, scores, boxes = model.detect((picture * 255).astype(np.uint8), 0.4, 0.4)
    found = [
        (NAMES[label], float(score), box)
        for label, score, box in zip(np.ravel(classes), np.ravel(scores), boxes, strict=True)
    ]
    return sorted(found, key=lambda one: -one[1])


def main() -> None:
    """Runs the whole way; see above."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument(
        "--weights",
        type=Path,
        default=Path("demo-output/yolov4-tiny.weights"),
        help="to begin with",
    )
    options = parser.parse_args()
    if not options.weights.exists():
        parser.error(f"{options.weights} is not there; `yolotf demo` fetches it")

    network = yolotf.network("yolov4-tiny", classes=len(NAMES), size=SIZE)
    model = yolotf.build_model(network)
    # The file says nothing of its classes; cfg= does. Heads that differ stay as they were made.
    print(yolotf.load_darknet_weights(model, options.weights, cfg="yolov4-tiny"))

    train(model, network, options.steps)

    cfg, weights = options.folder / "shapes.cfg", options.folder / "shapes.weights"
    cfg.write_text(network.to_cfg(), encoding="utf-8")
    size = yolotf.save_darknet_weights(model, weights, seen=8 * options.steps)
    print(f"{cfg} and {weights}, {size:,} bytes")

    picture, boxes = draw(np.random.default_rng(106))
    for label, x, y, width, height in boxes:
        left, top = round((x - width / 2) * SIZE), round((y - height / 2) * SIZE)
        print(f"drawn  {NAMES[int(label)]:7} at {left},{top} {round(width * SIZE)} wide")
    for name, score, (left, top, wide, _) in detect(cfg, weights, picture):
        print(f"opencv {name:7} at {left},{top} {wide} wide, {score:.0%}")


if __name__ == "__main__":
    main()
