"""`yolotf eval` for a classifier: top-1 and top-k accuracy."""

from __future__ import annotations

import argparse

from yolotf.cli import arguments
from yolotf.cli.messages import say
from yolotf.darknet.class_names import Names
from yolotf.darknet.network import Network
from yolotf.evaluation import classification
from yolotf.files.json import to_json
from yolotf.text import plural, printable


def main(parsed: argparse.Namespace, network: Network, names: Names) -> int:
    """Runs the command for a network without detection heads.

    Args:
        parsed: the arguments.
        network: the network of `--cfg`.
        names: its class names.

    Returns:
        0, or 1 if an image could not be read.
    """
    if not parsed.data:
        raise ValueError(
            "a classifier needs --data: a data file, or a folder with a subfolder for each class"
        )
    _refuse_options_of_detectors(parsed, network)
    data = classification.read_labelled_images(parsed.data)
    for note in data.notes:
        arguments.note(note)
    from yolotf.cli import progress  # imports rich

    with arguments.quiet(), progress.counted(len(data.paths)) as bar:
        result = classification.evaluate_classifier(
            network,
            parsed.weights,
            data,
            top=parsed.top,
            resize=arguments.classifier_resize_of(parsed, network),
            class_names=names,
            batch_size=parsed.batch_size,
            max_pixels=parsed.max_pixels,
            timeout=parsed.timeout,
            engine=parsed.engine,
            precision=parsed.precision,
            threads=parsed.threads,
            progress=bar.progress,
        )
    print(to_json(result.to_dict()) if parsed.json else printable(str(result)))
    if result.unlabelled:
        count = len(result.unlabelled)
        arguments.note(
            f"{plural(count, 'image')} without a label {'counts' if count == 1 else 'count'} as "
            f"wrong, as in Darknet; the first: {result.unlabelled[0]}"
        )
    for path, error in result.unread:
        say(f"yolotf: {path}: {error}")
    return 1 if result.unread else 0


_FOR_BOXES = ("like", "match_iou", "points", "score_threshold")


def _refuse_options_of_detectors(parsed: argparse.Namespace, network: Network) -> None:
    """Raises ValueError for an option that only applies to detectors."""
    for option in ("coco", "images", "letter_box", "nms_kind", "plot", *_FOR_BOXES):
        if getattr(parsed, option) != parsed.parser.get_default(option):
            name = option.replace("_", "-")
            if parsed.letter_box is False:
                name = name.replace("letter-box", "no-letter-box")
            advice = "; see --resize" if option == "letter_box" else ""
            raise ValueError(f"--{name} is for detectors, {network.source} is a classifier{advice}")
