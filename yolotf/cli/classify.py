"""`yolotf classify`: classifies images."""

from __future__ import annotations

import argparse
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence

from PIL import Image

from yolotf.cli import arguments, inputs, network_files
from yolotf.cli.messages import say, shown
from yolotf.files.json import to_json
from yolotf.inference.classifier import Classification, Classifier
from yolotf.inference.classifier_head import TOP
from yolotf.text import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="IMAGE|FOLDER|PATTERN|-",
        help="images to classify; - reads paths from standard input",
    )
    arguments.add_cfg(parser)
    arguments.add_classes(parser)
    arguments.add_size(parser)
    arguments.add_tree(parser)
    arguments.add_resize(parser, detectors=False)
    arguments.add_max_pixels(parser)
    arguments.add_timeout(parser)
    arguments.add_engine(parser)
    parser.add_argument(
        "--weights", metavar="FILE", help="the .weights file (default: as for detect)"
    )
    parser.set_defaults(parser=parser)
    arguments.add_names(parser, "class names, one a line")
    parser.add_argument(
        "--top",
        type=arguments.positive,
        default=TOP,
        metavar="K",
        help="number of classes to print (default: %(default)s)",
    )
    parser.add_argument("--recursive", action="store_true", help="include subfolders")
    arguments.add_batch_size(parser, 1)
    parser.add_argument(
        "--json", action="store_true", help="print a JSON object for each image, one a line"
    )


def main(parsed: argparse.Namespace) -> int:
    """Runs the command; returns 0, or 2 if an input could not be read."""
    network_files.complete(parsed)
    network = arguments.network_of(
        parsed.cfg, parsed.classes, parsed.size, parsed.dialect, parsed.tree
    )
    for path in (parsed.names, parsed.weights):
        arguments.require_file(path)
    names = network_files.names_of(parsed, network)
    with arguments.quiet():
        classifier = Classifier(
            network,
            parsed.weights,
            class_names=names,
            resize=arguments.classifier_resize_of(parsed, network),
            max_pixels=parsed.max_pixels,
            timeout=parsed.timeout,
            engine=parsed.engine,
            precision=parsed.precision,
            threads=parsed.threads,
        )
    unreadable = 0
    batch_size = 1 if classifier.stateful else parsed.batch_size
    # Answer an image from a pipe before reading the next.
    ahead = 0 if inputs.STDIN in parsed.inputs else batch_size
    read = inputs.read_ahead(_inputs(parsed), ahead, parsed.max_pixels)
    while batch := list(itertools.islice(read, batch_size)):
        for source, result in zip(batch, _results(classifier, batch, parsed.top), strict=True):
            unreadable += isinstance(result, str)
            _print(source.name, result, as_json=parsed.json)
    return 2 if unreadable else 0


def _results(
    classifier: Classifier, batch: Sequence[inputs.Input], top: int
) -> list[Classification | str]:
    """Returns the classification of each input, or why there is none."""
    classifier.reset()
    images = [source.image for source in batch if source.image is not None]
    classifications = iter(_classified(classifier, images, top))
    return [
        next(classifications)
        if source.image is not None
        else source.error or "a video; classify takes images"
        for source in batch
    ]


def _classified(
    classifier: Classifier, images: Sequence[Image.Image], top: int
) -> Sequence[Classification | str]:
    """Classifies a batch; if that fails, each image separately, so that only bad images fail."""
    if not images:
        return []
    try:
        with arguments.warnings_as_notes():
            return classifier(list(images), top=top)
    except (OSError, ValueError) as error:
        if len(images) == 1:
            return [str(error)]
    return [_classified(classifier, [image], top)[0] for image in images]


def _print(name: str, result: Classification | str, *, as_json: bool) -> None:
    """Prints a classification; an error goes to standard error, and with `as_json` to both."""
    if isinstance(result, str):
        say(f"yolotf: {name}: {result}")
        if as_json:
            print(to_json({"path": shown(name), "error": shown(result)}), flush=True)
    elif as_json:
        print(to_json({"path": name, **result.to_dict()}), flush=True)
    else:
        print(printable(f"{name}\n{result}\n"), flush=True)


def _inputs(parsed: argparse.Namespace) -> Iterator[str]:
    """Yields the names of the images; at the end, prints a note on skipped files."""
    skipped: Counter[str] = Counter()
    yield from inputs.expanded(
        parsed.inputs, recursive=parsed.recursive, skipped=skipped, videos=False
    )
    if skipped:
        arguments.note(inputs.about_skipped(skipped))
