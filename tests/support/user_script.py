"""What type checkers infer in a user's script; `make lint` checks this file, nothing runs it."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from typing_extensions import assert_type

import yolotf
import yolotf.keras_layers
import yolotf.serving.evaluation
import yolotf.serving.inference
from yolotf.inference.classifier_function import ClassifierFunction

detector = yolotf.Detector("yolov4-tiny", Path("yolov4-tiny.weights"), score_threshold=0.5)
detections = detector("bus.jpg")
assert_type(detections, yolotf.Detections)
assert_type(detector(Image.open("bus.jpg")), yolotf.Detections)
assert_type(detector(Path("bus.jpg").read_bytes()), yolotf.Detections)
assert_type(detector(["bus.jpg", Path("zidane.jpg")]), list[yolotf.Detections])
paths = [Path("bus.jpg"), Path("zidane.jpg")]
assert_type(detector(paths), list[yolotf.Detections])
arrays: tuple[npt.NDArray[np.uint8], ...] = (np.zeros((4, 4, 3), np.uint8),)
assert_type(detector(arrays), list[yolotf.Detections])
assert_type(detections[0].class_id, int)
assert_type(detections[:2], yolotf.Detections)
assert_type(detections[detections.scores > 0.5], yolotf.Detections)
assert_type(detections.filter(score=0.5, classes="person"), yolotf.Detections)

classify = yolotf.Classifier("darknet19", "darknet19.weights")
assert_type(classify("bus.jpg", top=1), yolotf.Classification)
assert_type(classify(["bus.jpg", Path("zidane.jpg")]), list[yolotf.Classification])
assert_type(classify(paths), list[yolotf.Classification])

function = yolotf.build_function("yolov4-tiny", "yolov4-tiny.weights", score_threshold=0.2)
assert_type(function, yolotf.InferenceFunction)
assert_type(yolotf.build_function("darknet19", b"", resize="crop"), ClassifierFunction)

model = yolotf.build_model(yolotf.network("yolov4-tiny", classes=3))
assert_type(yolotf.load_darknet_weights(model, "yolov4-tiny.weights"), yolotf.LoadReport)
assert_type(yolotf.convert("a.weights", "yolov4-tiny", "a.onnx"), yolotf.Conversion)
assert_type(yolotf.evaluate("yolov4-tiny", "a.weights", "obj.data"), yolotf.Score)
assert_type(yolotf.diagnose("a.weights", "yolov4-tiny"), yolotf.Diagnosis)
assert_type(yolotf.inspect("a.weights"), yolotf.Inspection)
assert_type(yolotf.PlanError("").code, str)

assert_type(yolotf.serving.evaluation.read_coco(Path("a.json")), yolotf.DataSet)
assert_type(yolotf.serving.inference.Detector, type[yolotf.Detector])
yolotf.keras_layers.reset_states(model)
