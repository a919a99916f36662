"""`yolotf export`: writes a SavedModel with `Detector.export` or `Classifier.export`."""

from __future__ import annotations

import argparse
from typing import Any

from yolotf.cli import arguments, network_files
from yolotf.cli.messages import shown
from yolotf.darknet.detection_options import DetectionOptions
from yolotf.darknet.network import Network
from yolotf.errors import YolotfError
from yolotf.files import sources


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.description = (
        "Writes a SavedModel for TensorFlow Serving and Triton. It takes images of any size and "
        "returns detections in pixels, or a classifier's probabilities; it needs neither yolotf "
        "nor the cfg."
    )
    parser.set_defaults(parser=parser)
    parser.add_argument("weights", metavar="FILE", help="the .weights file")
    arguments.add_network(parser, required=True)
    parser.add_argument("-o", "--output", metavar="FOLDER", required=True, help="folder to write")
    arguments.add_overwrite(parser)
    arguments.add_names(parser, "class names, one a line; stock networks know COCO's")
    arguments.add_resize(parser)
    arguments.add_max_pixels(parser)
    arguments.add_timeout(parser)
    boxes = parser.add_argument_group("detectors only")
    arguments.add_letter_box(boxes)
    arguments.add_detection_options(boxes)
    arguments.add_suppression(boxes)


def main(parsed: argparse.Namespace) -> int:
    """Runs the command and returns its exit code."""
    arguments.temporary_files_near(parsed.output)
    network = arguments.network_of(
        parsed.cfg, parsed.classes, parsed.size, parsed.dialect, parsed.tree
    )
    for path in (parsed.names, parsed.weights):
        arguments.require_file(path)
    if network.heads and parsed.resize in ("crop", "letter-box", "stretch"):
        raise YolotfError(
            f"{network.source}: --resize {parsed.resize} is for classifiers; for a detector use "
            "--resize darknet, opencv or opencv-exact, or --letter-box"
        )
    if not network.heads:
        _refuse_detector_options(parsed, network)
    shared: dict[str, Any] = {
        "class_names": network_files.names_of(parsed, network),
        "max_pixels": parsed.max_pixels,
        "timeout": parsed.timeout,
    }
    with arguments.quiet():
        # Imported late, after arguments and paths were checked.
        from yolotf.inference.classifier import Classifier
        from yolotf.inference.detector import Detector

        served: Classifier | Detector
        if network.heads:
            served = Detector(
                network,
                parsed.weights,
                **arguments.detection_options(parsed),
                **shared,
            )
        else:
            served = Classifier(
                network,
                parsed.weights,
                resize=arguments.classifier_resize_of(parsed, network),
                **shared,
            )
        served.export(parsed.output, overwrite=parsed.overwrite)
    print(shown(f"{sources.name_of(parsed.weights)} -> {parsed.output}"))
    return 0


def _refuse_detector_options(parsed: argparse.Namespace, network: Network) -> None:
    """Raises YolotfError for an option that a classifier would ignore."""
    for name, default in vars(DetectionOptions()).items():
        if name != "resize" and getattr(parsed, name) != default:
            option = f"--{name.replace('_', '-')}"
            raise YolotfError(f"{network.source}: {option} is for detectors, not classifiers")
