"""`yolotf save`: writes a `.weights` file with `save_darknet_weights`."""

from __future__ import annotations

import argparse
from typing import Any

from yolotf.cli import arguments
from yolotf.cli.messages import shown
from yolotf.darknet.network import Network
from yolotf.darknet.stock import as_network
from yolotf.errors import WeightsMismatch
from yolotf.files import output_target, sources

_KERAS = (".keras", ".h5", ".hdf5")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.description = (
        "Writes the weights of a saved Keras model for Darknet, or, with --upto, the first "
        "sections of a .weights file, as darknet partial does. Where its batch normalizations "
        "have another epsilon than Darknet's 1e-5, a note says so."
    )
    parser.set_defaults(parser=parser)
    parser.add_argument(
        "file",
        metavar="FILE",
        help="a saved Keras model (.keras, .h5), or a .weights file",
    )
    arguments.add_cfg(parser, required=True)
    arguments.add_classes(parser)
    parser.add_argument(
        "-o", "--output", metavar="OUTPUT", required=True, help="the .weights file to write"
    )
    parser.add_argument(
        "--upto",
        type=int,
        metavar="N",
        help="write only the first N sections: a backbone, such as yolov4.conv.137",
    )
    parser.add_argument(
        "--seen",
        type=int,
        metavar="N",
        help="number of images trained on, for the header (default: that of a .weights file, or 0)",
    )
    parser.add_argument(
        "--fold-epsilon",
        action="store_true",
        help="make Darknet compute what the model does, by adding the difference between the "
        "model's epsilon and Darknet's to the variances",
    )
    parser.add_argument(
        "--trust-model",
        action="store_true",
        help="load a model that contains Python code, such as a Lambda layer; the code may run",
    )
    arguments.add_overwrite(parser)
    arguments.add_timeout(parser)


def main(parsed: argparse.Namespace) -> int:
    """Runs the command and returns its exit code."""
    output_target.checked_target(
        parsed.output, overwrite=parsed.overwrite, inputs=[parsed.file, parsed.cfg]
    )
    network = as_network(parsed.cfg, classes=parsed.classes, dialect=parsed.dialect)
    arguments.require_file(parsed.file)
    with arguments.quiet():
        # imports TensorFlow: only after arguments and paths were checked
        from yolotf.loading.save import save_darknet_weights

        size_bytes = save_darknet_weights(
            _model(parsed, network),
            parsed.output,
            network=network,
            seen=parsed.seen,
            upto=parsed.upto,
            fold_epsilon=parsed.fold_epsilon,
            overwrite=parsed.overwrite,
        )
    print(shown(f"{sources.name_of(parsed.file)} -> {parsed.output}: {size_bytes:,} bytes"))
    return 0


def _model(parsed: argparse.Namespace, network: Network) -> Any:
    """Returns the model whose weights are written."""
    # imports TensorFlow: only after arguments and paths were checked
    from yolotf.loading.build import build_model
    from yolotf.models.build import read_model

    if parsed.file.lower().endswith(_KERAS):
        return read_model(parsed.file, trust=parsed.trust_model)
    try:
        return build_model(network, weights=parsed.file, timeout=parsed.timeout)
    except WeightsMismatch as error:  # says what `build_model` takes
        diagnosis = error.facts.get("diagnosis")
        if not diagnosis or not error.is_about_file:
            raise
        raise type(error)(diagnosis.with_argument().summary(), **error.facts) from None
