"""What every writer is given: the Keras model with its weights, and the options of `convert`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from yolotf.darknet import cfg, graph_checks
from yolotf.errors import UnsupportedSectionError
from yolotf.files.paths import StrPath
from yolotf.images.limits import MAX_PIXELS
from yolotf.models.keras_module import keras
from yolotf.onnx.model import Suppression
from yolotf.progress import Progress, ignore

if TYPE_CHECKING:
    from yolotf.loading.load import LoadReport


Layout = Literal["NCHW", "NHWC", "torch"]


@dataclass(frozen=True)
class Options:
    """The options of `convert` beyond the format; see its arguments."""

    any_size: bool = False
    reverse_outputs: bool = False
    batch_size: int | None = None
    decode: bool = False
    float16: bool = False
    int8: Sequence[StrPath] = ()
    int8_only: bool = False
    allow_inaccurate: bool = False
    old_keras: bool = False
    max_pixels: int | None = MAX_PIXELS
    layout: Layout = "NCHW"
    class_names: tuple[str, ...] = ()
    suppression: Suppression | None = None


@dataclass(frozen=True)
class ConversionInput:
    """A Keras model with its weights loaded, and how to convert it."""

    model: Any
    network: cfg.Network
    loaded: LoadReport
    options: Options = Options()
    progress: Progress = ignore
    arrays: Mapping[str, Any] | None = None
    """The arrays of the file by name, for a format that stores them in the layout of the file."""


def build(network: cfg.Network, options: Options) -> Any:
    """Builds the network's Keras model; honors `any_size` and `reverse_outputs`."""
    # imported lazily, with Keras: needed only while converting
    from yolotf.models.build import build_model

    model = build_model(network)
    if options.any_size:
        images = keras().layers.Input(
            (None, None, network.input_shape.channels), name=model.input.name.split(":")[0]
        )
        model = keras().models.clone_model(model, input_tensors=images)
    if options.reverse_outputs:
        model = keras().Model(model.input, list(model.outputs)[::-1], name=model.name)
    return model


def check_keras_any_size(network: cfg.Network) -> None:
    """Raises UnsupportedSectionError if a Keras layer depends on the image size."""
    for index in sorted(graph_checks.used_layers(network)):
        layer = network.layers[index]
        if layer.fixes_keras_size(network):
            raise graph_checks.refuse(
                network, layer, f"[{layer.type}] works for one image size only; leave any_size out"
            )


def check_stride_divides(network: cfg.Network) -> None:
    """Raises UnsupportedSectionError if the padding would vary with the image size."""
    output_shapes = [
        network.layers[index].output_shape for index in graph_checks.output_layers(network)
    ]
    height, width, _ = network.input_shape
    for shape in output_shapes:
        # Where the stride does not divide the size, the padding depends on the size.
        if isinstance(shape, cfg.Shape) and (height % shape.height or width % shape.width):
            raise UnsupportedSectionError(
                f"{network.source}: the network's size, {width}x{height}, is not a multiple of its "
                "stride, so its padding would be wrong for other sizes; pass another size, or "
                "leave any_size out",
                source=network.source,
            )
