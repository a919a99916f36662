"""`build_function`: a network as a TensorFlow function, of detectors or classifiers, without Keras.

Importing this module imports TensorFlow.
"""

from __future__ import annotations

from typing import Any, Literal, cast, overload

from yolotf._public import public, renamed
from yolotf.argument_numbers import flags_checked
from yolotf.darknet import cfg, stock
from yolotf.darknet.class_names import Names
from yolotf.darknet.detection_options import DetectionOptions, Only, Resize
from yolotf.darknet.dialects import Dialect
from yolotf.graphs import forked
from yolotf.inference import classifier_images
from yolotf.inference.classifier_function import ClassifierFunction
from yolotf.inference.detector_function import InferenceFunction
from yolotf.inference.image_operations import fit, to_float
from yolotf.runtime.options import ServingOptions
from yolotf.weights.file import WeightsSource

__all__ = ["ClassifierFunction", "InferenceFunction", "build_function", "fit", "to_float"]


@overload
def build_function(
    network: cfg.Network | cfg.Source,
    weights: WeightsSource,
    *,
    classes: int | None = ...,
    dialect: Dialect | None = ...,
    score_threshold: float = ...,
    iou_threshold: float = ...,
    max_boxes: int = ...,
    nms_kind: str | None = ...,
    agnostic: bool = ...,
    only: Only = ...,
    class_names: Names = ...,
    any_size: bool = ...,
    letter_box: bool | None = ...,
    resize: Resize | None = ...,
    timeout: float | None = ...,
) -> InferenceFunction: ...


@overload
def build_function(
    network: cfg.Network | cfg.Source,
    weights: WeightsSource,
    *,
    classes: int | None = ...,
    dialect: Dialect | None = ...,
    score_threshold: float = ...,
    iou_threshold: float = ...,
    max_boxes: int = ...,
    nms_kind: str | None = ...,
    agnostic: bool = ...,
    only: Only = ...,
    class_names: Names = ...,
    any_size: bool = ...,
    letter_box: bool | None = ...,
    resize: Literal["crop", "letter_box", "stretch"],
    timeout: float | None = ...,
) -> ClassifierFunction: ...


@public
@renamed(names="class_names", score="score_threshold", iou="iou_threshold")
@flags_checked("any_size")
def build_function(
    network: cfg.Network | cfg.Source,
    weights: WeightsSource,
    *,
    classes: int | None = None,
    dialect: Dialect | None = None,
    score_threshold: float = DetectionOptions.score_threshold,
    iou_threshold: float = DetectionOptions.iou_threshold,
    max_boxes: int = DetectionOptions.max_boxes,
    nms_kind: str | None = DetectionOptions.nms_kind,
    agnostic: bool = DetectionOptions.agnostic,
    only: Only = DetectionOptions.only,
    class_names: Names = None,
    any_size: bool = False,
    letter_box: bool | None = DetectionOptions.letter_box,
    resize: Resize | classifier_images.Resize | None = None,
    timeout: float | None = ServingOptions.timeout,
) -> InferenceFunction | ClassifierFunction:
    """Builds an inference function of plain TensorFlow operations, batch normalization folded.

    Imports TensorFlow; `Detector` does not.

    Args:
        network: a `Network`, a stock name, or a cfg's path or text.
        weights: the `.weights` file, as `load_darknet_weights` takes it.
        classes: number of classes; None: the network's own.
        dialect: the fork of Darknet that reads the cfg, see `parse_cfg`; for a cfg's path or
            text only.
        score_threshold: lowest score of a detection, in [0, 1).
        iou_threshold: of boxes of one class that overlap more (IoU), only the best is kept; in
            [0, 1).
        max_boxes: largest number of detections per image; the best are kept.
        nms_kind: `default`, `greedynms` or `diounms`; None: as in the cfg.
        agnostic: suppress overlapping boxes of different classes too.
        only: the classes to detect, see `Detector`.
        class_names: the names that `only` may use, see `Detector`.
        any_size: do not resize images; their height and width may be any multiple of
            `InferenceFunction.stride`.
        letter_box: whether images keep their proportions; None: as in the cfg.
        resize: how images are resized to the network's size, see `Detector` and `Classifier`.
        timeout: see `load_darknet_weights`.

    The thresholds and the options of boxes are for detectors only.

    Returns:
        A callable, see `InferenceFunction.__call__`; for a network without heads
        `ClassifierFunction.__call__` (to type checkers, if `resize` is a `Classifier`'s).

    Raises:
        WeightsMismatch: the file does not match the network; has a `diagnosis`.
        CfgError: the cfg is invalid, or there is no such network.
        UnsupportedSectionError: the network has sections or heads that are not supported.
        ValueError: an option is out of range, or not for this kind of network.
        OSError: a file cannot be read.
        ForkedProcessError: the process was forked after TensorFlow had run in its parent.
    """
    forked.check_process("build_function")
    network = stock.as_network(network, classes=classes, dialect=dialect)
    if not network.heads:
        _refuse_box_options(
            network,
            nms_kind=nms_kind,
            only=only,
            any_size=any_size,
            agnostic=agnostic,
            letter_box=letter_box,
        )
        classifier = ClassifierFunction(
            network,
            resize=cast("classifier_images.Resize", resize or "crop"),  # which it checks
        )
        classifier.load(weights, contents_disposable=True, timeout=timeout)
        return classifier
    if resize == "crop" or resize == "letter_box" or resize == "stretch":
        raise ValueError(
            f"{network.source}: resize={resize!r} is for classifiers, and this network is a "
            "detector; pass resize='darknet' or 'opencv', and letter_box=True to keep the "
            "proportions"
        )
    wanted = DetectionOptions(
        score_threshold=score_threshold,
        iou_threshold=iou_threshold,
        max_boxes=max_boxes,
        nms_kind=nms_kind,
        agnostic=agnostic,
        only=only,
        letter_box=letter_box,
        resize=resize or DetectionOptions.resize,
    )
    network = wanted.applied_to(network)
    function = InferenceFunction(network, wanted, class_names=class_names, any_size=any_size)
    function.load(weights, contents_disposable=True, trace=True, timeout=timeout)
    return function


def _refuse_box_options(network: cfg.Network, **options: Any) -> None:
    """Raises ValueError for an option of detectors, which a classifier ignores."""
    for name, value in options.items():
        if value:
            raise ValueError(
                f"{network.source}: {name}={value!r} is for detectors, and this network has no "
                f"detection head; leave {name} out"
            )
