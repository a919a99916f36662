"""Computes the outputs of each way to run a network: `python ways_to_run.py FOLDER OUTPUTS`.

Reads `FOLDER/cases.json`, which has `Case`s, and the files in a folder named after each case.
Writes the outputs as arrays `case way part` to `FOLDER/OUTPUTS.npz`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

Arrays = dict[str, Any]


class Case(TypedDict):
    """A network, and how to run it."""

    name: str
    cfg: str
    weights: str
    pictures: str
    """A `.npy` file: uint8 [images, height, width, channels]."""
    score: float
    ways: list[str]


def _rows_of(rows: Iterable[Any]) -> Arrays:
    """Returns the detections of all images in one array: image, class, score, box."""
    return {"detections": np.array(list(rows), np.float64).reshape(-1, 7)}


def _of_batch(boxes: Any, scores: Any, classes: Any, counts: Any) -> Arrays:
    return _rows_of(
        (number, classes[number][row], scores[number][row], *np.asarray(boxes[number][row]))
        for number, count in enumerate(np.asarray(counts))
        for row in range(count)
    )


def detector(case: Case, pictures: Any, _: Path, engine: Any = "tensorflow") -> Arrays:
    """Runs `Detector`: TensorFlow's libraries without its Python."""
    import yolotf

    made = yolotf.Detector(
        case["cfg"], case["weights"], score_threshold=case["score"], engine=engine
    )
    answers = made(list(pictures))
    return _rows_of(
        (number, *box)
        for number, answer in enumerate(answers)
        for box in zip(answer.classes, answer.scores, *np.transpose(answer.xyxy), strict=True)
    )


def openvino(case: Case, pictures: Any, folder: Path) -> Arrays:
    """Runs `Detector` on OpenVINO."""
    return detector(case, pictures, folder, "openvino")


def onnxruntime(case: Case, pictures: Any, folder: Path) -> Arrays:
    """Runs `Detector` on onnxruntime."""
    return detector(case, pictures, folder, "onnxruntime")


def function(case: Case, pictures: Any, _: Path) -> Arrays:
    """Runs `build_function`."""
    from yolotf.inference import build_function

    outputs = build_function(case["cfg"], case["weights"], score_threshold=case["score"])(pictures)
    return _of_batch(*(np.asarray(part) for part in outputs))


def served(_: Case, pictures: Any, folder: Path) -> Arrays:
    """Runs the SavedModel of `Detector.export`, copied to another place."""
    import tensorflow as tf

    signature = tf.saved_model.load(folder / "served").signatures["serving_default"]
    outputs = signature(images=tf.constant(pictures))
    return _of_batch(*(outputs[name].numpy() for name in ("boxes", "scores", "classes", "counts")))


def converted(_: Case, pictures: Any, folder: Path) -> Arrays:
    """Runs the SavedModel of `convert`, copied to another place."""
    import tensorflow as tf

    signature = tf.saved_model.load(folder / "converted").signatures["serving_default"]
    outputs = signature(images=tf.constant(pictures / np.float32(255)))
    return {name: value.numpy() for name, value in outputs.items()}


def saved(_: Case, pictures: Any, folder: Path) -> Arrays:
    """Runs the `.keras` file of `convert`, copied to another place."""
    from yolotf.models.build import read_model

    return _predicted(read_model(folder / "model.keras"), pictures)


def built(case: Case, pictures: Any, _: Path) -> Arrays:
    """Runs `build_model` and `load_darknet_weights`."""
    import yolotf

    model = yolotf.build_model(yolotf.parse_cfg(case["cfg"]))
    yolotf.load_darknet_weights(model, case["weights"])
    return _predicted(model, pictures)


def _predicted(model: Any, pictures: Any) -> Arrays:
    outputs = model.predict(pictures / np.float32(255), batch_size=len(pictures), verbose=0)
    heads = outputs if isinstance(outputs, list) else [outputs]
    return {f"output_{number}": head for number, head in enumerate(heads)}


WAYS: dict[str, Callable[[Case, Any, Path], Arrays]] = {
    way.__name__: way
    for way in (detector, openvino, onnxruntime, function, served, converted, saved, built)
}


def main(folder: Path, name: str) -> None:
    """Runs every way of every case."""
    answers: Arrays = {}
    for case in json.loads((folder / "cases.json").read_text(encoding="utf-8")):
        pictures = np.load(case["pictures"])
        for way in case["ways"]:
            for part, array in WAYS[way](case, pictures, folder / case["name"]).items():
                answers[f"{case['name']} {way} {part}"] = array
    np.savez(folder / f"{name}.npz", **answers)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
