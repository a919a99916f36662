"""Evaluates networks on labelled images: Darknet's and COCO's mean average precision.

Classifiers are evaluated by top-1 and top-k accuracy. Only the detector uses TensorFlow.
"""

from typing import Any

from yolotf._public import warn_caller
from yolotf.evaluation.classification import (
    ClassificationScore,
    LabelledImages,
    evaluate_classifier,
    read_labelled_images,
)
from yolotf.evaluation.coco import read_coco, read_instances
from yolotf.evaluation.coco_metrics import COCO_NUMBERS, coco_numbers
from yolotf.evaluation.coco_sizes import fitted_to_images
from yolotf.evaluation.comparison import compare, comparison_lines, read_result
from yolotf.evaluation.curve import figure_for, plot
from yolotf.evaluation.darknet_score import (
    ClassScore,
    Score,
    average_precision,
    iou,
    relative,
    score,
)
from yolotf.evaluation.data_set import (
    AnnotatedImage,
    DataSet,
    Truths,
    label_path,
    read_darknet,
    read_data_file,
    read_data_set,
)
from yolotf.evaluation.detecting import detect_all
from yolotf.evaluation.labels import find_labels, label_places
from yolotf.evaluation.pairing import paired
from yolotf.evaluation.run import evaluate

__all__ = [
    "COCO_NUMBERS",
    "AnnotatedImage",
    "ClassScore",
    "ClassificationScore",
    "DataSet",
    "LabelledImages",
    "Score",
    "Truths",
    "average_precision",
    "coco_numbers",
    "compare",
    "comparison_lines",
    "detect_all",
    "evaluate",
    "evaluate_classifier",
    "figure_for",
    "find_labels",
    "fitted_to_images",
    "iou",
    "label_path",
    "label_places",
    "paired",
    "plot",
    "read_coco",
    "read_darknet",
    "read_data_file",
    "read_data_set",
    "read_instances",
    "read_labelled_images",
    "read_result",
    "relative",
    "score",
]

_RENAMED = {"LabelledPicture": "AnnotatedImage", "fitted_to_pictures": "fitted_to_images"}


def __getattr__(name: str) -> Any:
    if name not in _RENAMED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warn_caller(f"{__name__}.{name} is called {_RENAMED[name]} now", DeprecationWarning)
    return globals()[_RENAMED[name]]
