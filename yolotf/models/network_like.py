"""Makes a `Network` that stores the same floats as a Keras model, to compare it with a file."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from yolotf.darknet import cfg
from yolotf.errors import ModelMismatchError
from yolotf.models import keras_graph
from yolotf.models.layer_names import network_of
from yolotf.models.order_by_file import preferred
from yolotf.models.readings import reading_of_size
from yolotf.models.stock import stock_networks
from yolotf.models.units import Structure, Unit
from yolotf.weights import layout


class ModelNetwork(cfg.Network):
    """A chain of a model's layers. It can be compared with a file, but not built."""

    def where(self, layer: cfg.Layer) -> str:
        """Returns the layer in words: `layer conv2d_17 of yolov4`."""
        return f"layer {layer.section.name} of {self.source}"


def network_like(model: Any, floats: Collection[int] = ()) -> cfg.Network:
    """Returns the network `model` was built from, the stock network it is, or a chain of layers.

    Args:
        model: any built Keras model.
        floats: the numbers of floats that a file for it may hold. They decide whether a batch
            normalization after a bias is a section itself.

    Returns:
        A network whose segments are those of a file for `model`.

    Raises:
        ModelMismatchError: the model has no layer whose weights Darknet would store.
    """
    own = network_of(model)
    if own is not None:
        return own
    structure = reading_of_size(model, floats, skips_bare=True)
    try:
        order: Sequence[Unit] = preferred(structure)
    except ModelMismatchError:
        order = structure.units  # several orders are possible; this is the likeliest
    if not order:
        raise ModelMismatchError(
            f"{structure.name}: none of its layers has weights that a .weights file may hold"
        )
    shapes = [stored for unit in order for stored in unit.stored()]
    for network in stock_networks(structure.floats):
        if [(segment.role, segment.shape) for segment in layout.segments(network)] == shapes:
            return network
    layers = _Chain(structure, order).layers
    return ModelNetwork(structure.name, cfg.Section("net", 0), tuple(layers), layers[0].input_shape)


@dataclass(frozen=True, kw_only=True)
class _Other(cfg.Layer):
    """A layer of which only the arrays are known: (role, shape)."""

    arrays: tuple[tuple[str, tuple[int, ...]], ...]

    def stored(self) -> Iterator[cfg.Stored]:
        """Yields its arrays."""
        for role, shape in self.arrays:
            yield cfg.Stored("", cfg.Role(role), shape)


class _Chain:
    """A chain of layers that store what the units hold and read as many channels as they do.

    A unit may read several units, or not the unit before it; a layer without weights is then
    inserted to supply its input.
    """

    def __init__(self, structure: Structure, order: Sequence[Unit]) -> None:
        self.structure = structure
        self.layers: list[cfg.Layer] = []
        self._index: dict[int, int] = {}
        place = {unit: number for number, unit in enumerate(structure.units)}
        for unit in order:
            self._add(unit)
            self._index[place[unit]] = len(self.layers) - 1

    def _add(self, unit: Unit) -> None:
        roles = dict(unit.stored())
        kernel = roles.get("kernel")
        if kernel is None:
            self._add_without_kernel(unit, roles)
        elif len(kernel) == 2:
            output, inputs = kernel
            common = self._common(unit, "connected", inputs, cfg.Shape(1, 1, output))
            self.layers.append(
                cfg.Connected(
                    output=output, batch_normalize="beta" in roles, activation="linear", **common
                )
            )
        elif len(kernel) == 5:
            rows, columns = roles["bias"][1:]
            _, filters, channels, size, _ = kernel
            common = self._common(unit, "local", channels, cfg.Shape(rows, columns, filters))
            self.layers.append(
                cfg.Local(
                    filters=filters, size=size, stride=1, pad=False, activation="linear", **common
                )
            )
        else:
            self._add_convolution(unit, kernel, "beta" in roles)

    def _add_convolution(self, unit: Unit, kernel: tuple[int, ...], batch_normalize: bool) -> None:
        filters, channels, height, width = kernel
        slot = unit.leaf.slots["kernel"]
        groups = slot.shape[-2] if slot.depthwise else int(getattr(unit.leaf.layer, "groups", 1))
        # Darknet's kernels are square. Any other kernel is stored like a 1x1 kernel with more
        # input channels.
        size, places = (height, 1) if height == width else (1, height * width)
        output = cfg.Shape(1, 1, filters)
        common = self._common(unit, "convolutional", channels * places * groups, output)
        self.layers.append(
            cfg.Convolutional(
                filters=filters,
                size=size,
                stride_y=1,
                stride_x=1,
                padding=0,
                dilation=1,
                groups=groups,
                batch_normalize=batch_normalize,
                activation="linear",
                share_index=None,
                flipped=False,
                antialiasing=0,
                xnor=False,
                **common,
            )
        )

    def _add_without_kernel(self, unit: Unit, roles: dict[str, tuple[int, ...]]) -> None:
        if "weights" not in roles:
            (channels,) = roles["beta"]
            common = self._common(unit, "batchnorm", channels, cfg.Shape(1, 1, channels))
            self.layers.append(cfg.Batchnorm(**common))
            return
        name = unit.leaf.slots["weights"].name.rpartition("/")[2]
        if name not in ("implicit", "shortcut") or len(roles["weights"]) != 2:
            channels = self.layers[-1].output_shape.channels if self.layers else 1
            common = self._common(unit, name, channels, cfg.Shape(1, 1, channels))
            self.layers.append(_Other(arrays=tuple(roles.items()), **common))
            return
        rows, columns = roles["weights"]
        if name == "implicit":
            common = self._common(unit, "implicit", None, cfg.Shape(columns, 1, rows))
            self.layers.append(cfg.Implicit(filters=rows, atoms=columns, **common))
            return
        # A weighted sum has factors for each input; which layers these are does not matter.
        channels = (
            self.layers[-1].output_shape.channels if columns == 1 and self.layers else columns
        )
        common = self._common(unit, "shortcut", channels, cfg.Shape(1, 1, channels))
        common["inputs"] = common["inputs"][:1] * rows
        self.layers.append(
            cfg.Shortcut(
                activation="linear",
                weights_type="per_feature" if columns == 1 else "per_channel",
                weights_normalization="none",
                **common,
            )
        )

    def _common(
        self, unit: Unit, kind: str, channels: int | None, output: cfg.Shape
    ) -> dict[str, Any]:
        """Returns the common fields of a layer; `channels` is None for one that reads nothing."""
        inputs = () if channels is None else (self._source(unit, channels),)
        return {
            "index": len(self.layers),
            "type": kind,
            "line": 0,
            "section": cfg.Section(unit.name, 0),
            "inputs": inputs,
            "input_shape": cfg.Shape(1, 1, channels or 0),
            "output_shape": output,
        }

    def _source(self, unit: Unit, channels: int) -> int:
        """Returns the index of a layer with the `channels` output channels that `unit` reads."""
        entering = self.structure.inputs.get(unit, [])
        if len(entering) == 1:
            source = self._known_source(entering[0], channels)
            if source is not None:
                return source
        before = len(self.layers) - 1
        if not self.layers:
            return cfg.NETWORK_INPUT
        if self.layers[before].output_shape.channels == channels:
            return before
        return self._join(unit, (), channels)

    def _known_source(self, entering: keras_graph.Expression, channels: int) -> int | None:
        parts = entering[1:] if entering[0] == "cat" else (entering,)
        indices = [self._index.get(part[1]) for part in parts if part[0] == "unit"]
        known = [index for index in indices if index is not None]
        if len(known) != len(parts):
            return None
        if sum(self.layers[index].output_shape.channels for index in known) != channels:
            return None
        return known[0] if len(known) == 1 else self._join(None, tuple(known), channels)

    def _join(self, unit: Unit | None, inputs: tuple[int, ...], channels: int) -> int:
        shape = cfg.Shape(1, 1, channels)
        index = len(self.layers)
        common: dict[str, Any] = {
            "index": index,
            "line": 0,
            "inputs": inputs,
            "input_shape": shape,
            "output_shape": shape,
        }
        if unit is None:
            section = cfg.Section(f"join_{index}", 0)
            self.layers.append(
                cfg.Route(type="route", section=section, groups=1, group_id=0, **common)
            )
        else:
            section = cfg.Section(f"input of {unit.name}", 0)
            self.layers.append(cfg.Passive(type="input", section=section, **common))
        return index
