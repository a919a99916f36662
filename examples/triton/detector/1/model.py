"""Triton's Python backend around `yolotf.Detector`; `config.pbtxt` names the files it reads."""

import json
from typing import Any

import numpy as np
import triton_python_backend_utils as triton

import yolotf


class TritonPythonModel:
    """One instance of the model."""

    def initialize(self, args: dict[str, str]) -> None:
        """Reads the files named by the parameters of `config.pbtxt`."""
        config = json.loads(args["model_config"])
        given = {key: one["string_value"] for key, one in config["parameters"].items()}
        self.detector = yolotf.Detector(
            given["network"], given["weights"], class_names=given.get("class_names") or None
        )
        channels = self.detector.network.input_shape.channels
        self.detector(np.zeros((1, *self.detector.size, channels), np.uint8))  # warms up

    def execute(self, requests: list[Any]) -> list[Any]:
        """Detects in the images of all requests at once, and answers each its own."""
        batches = [triton.get_input_tensor_by_name(one, "images").as_numpy() for one in requests]
        found = iter(self.detector([image for batch in batches for image in batch]))
        return [self._response([next(found) for _ in batch]) for batch in batches]

    def _response(self, found: list[yolotf.Detections]) -> Any:
        """Rows of all images of a request have the same number; `counts` says how many count."""
        rows = max(map(len, found), default=0)
        boxes = np.zeros((len(found), rows, 4), np.float32)
        scores = np.zeros((len(found), rows), np.float32)
        classes = np.zeros((len(found), rows), np.int32)
        counts = np.array([[len(one)] for one in found], np.int32).reshape(-1, 1)
        for place, one in enumerate(found):
            boxes[place, : len(one)] = one.xyxy
            scores[place, : len(one)] = one.scores
            classes[place, : len(one)] = one.classes
        arrays = {"boxes": boxes, "scores": scores, "classes": classes, "counts": counts}
        tensors = [triton.Tensor(name, values) for name, values in arrays.items()]
        return triton.InferenceResponse(tensors)
