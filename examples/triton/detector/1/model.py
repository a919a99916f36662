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
        parameters = {
            key: parameter["string_value"] for key, parameter in config["parameters"].items()
        }
        self.detector = yolotf.Detector(
            parameters["network"],
            parameters["weights"],
            class_names=parameters.get("class_names") or None,
        )
        channels = self.detector.network.input_shape.channels
        self.detector(np.zeros((1, *self.detector.size, channels), np.uint8))  # warms up

    def execute(self, requests: list[Any]) -> list[Any]:
        """Detects in the images of all requests at once, and returns a response to each request."""
        batches = [
            triton.get_input_tensor_by_name(request, "images").as_numpy() for request in requests
        ]
        detections = iter(self.detector([image for batch in batches for image in batch]))
        return [self._response([next(detections) for _ in batch]) for batch in batches]

    def _response(self, images: list[yolotf.Detections]) -> Any:
        """Returns a response, padded to the same number of rows per image; see `counts`."""
        rows = max(map(len, images), default=0)
        boxes = np.zeros((len(images), rows, 4), np.float32)
        scores = np.zeros((len(images), rows), np.float32)
        classes = np.zeros((len(images), rows), np.int32)
        counts = np.array([[len(image)] for image in images], np.int32).reshape(-1, 1)
        for index, detections in enumerate(images):
            boxes[index, : len(detections)] = detections.xyxy
            scores[index, : len(detections)] = detections.scores
            classes[index, : len(detections)] = detections.classes
        arrays = {"boxes": boxes, "scores": scores, "classes": classes, "counts": counts}
        tensors = [triton.Tensor(name, values) for name, values in arrays.items()]
        return triton.InferenceResponse(tensors)
