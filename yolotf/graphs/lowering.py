"""A graph while it is written, and how each class of section is written into it.

`yolotf.graphs.sections` registers what it knows of a section by the section's class: `lowers` for
its operations, and, where it has something to say there, `lowers_in_parts`, `holds` and
`stores_kernel`. Whoever writes a graph asks here and names no section.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from yolotf.darknet import cfg
from yolotf.darknet import graph_checks as graph_rules
from yolotf.darknet.layer import activation_of
from yolotf.graphs import activations
from yolotf.graphs.lazy_concat import Joined, Part
from yolotf.graphs.operations import Operations, Tensor


@dataclass
class Lowering:
    """A graph while its sections are written.

    Attributes:
        ops: where operations are written, see `yolotf.graphs.operations`.
        network: what is written.
        pictures: [batch, rows, columns, channels] float32, 0..1.
        weights: gives the array of a key, see `key_of`.
        blocks: how many blocks a section's kernel is stored in, by the section's index.
        fused: convolutions are oneDNN's operation, see `onednn.convolve`; else standard operations
            only.
        resizable: rows and columns may be others than the cfg says.
        as_stored: kernels have Darknet's order of axes, and every convolution is one operation.
        states: what has been kept from the frame before, by key.
        kept: what is to be kept for the next frame, by key, as the sections are written.
    """

    ops: Operations
    network: cfg.Network
    pictures: Tensor
    weights: Callable[[str], Tensor]
    blocks: Mapping[int, int]
    fused: bool
    resizable: bool
    as_stored: bool
    states: Mapping[str, Tensor]
    kept: dict[str, Tensor] = field(default_factory=dict)
    _arrays: dict[str, Tensor] = field(default_factory=dict)

    def array(self, layer: cfg.Layer, role: str, part: str = "") -> Tensor:
        """An array of a section, or of a part of a recurrent one; asked for once."""
        key = key_of(layer.index, role, part)
        if key not in self._arrays:
            self._arrays[key] = self.weights(key)
        return self._arrays[key]

    def input_shapes(self, layer: cfg.Layer) -> list[cfg.Shape]:
        """Of each input, by the cfg."""
        return [self.network.shape(index) for index in layer.inputs]

    def activated(self, layer: cfg.Layer, x: Tensor) -> Tensor:
        """`x` after the section's own activation."""
        return activations.activate(self.ops, x, activation_of(layer))

    def section(self, layer: cfg.Layer, inputs: Sequence[Joined]) -> Joined:
        """Writes a section.

        Raises:
            UnsupportedSectionError: nothing is known of its class.
        """
        cls = type(layer)
        if self.fused and cls in _IN_PARTS:
            in_parts = _IN_PARTS[cls](self, layer, inputs)
            if in_parts is not None:
                return in_parts
        if cls not in LOWERINGS:
            raise graph_rules.refuse(self.network, layer, f"[{layer.type}] cannot be built")
        x = LOWERINGS[cls](self, layer, [entering.whole() for entering in inputs])
        return Joined(self.ops, [Part(x, layer.output_shape.channels)])


class KernelForm(NamedTuple):
    """How a graph has the kernel of a section.

    Attributes:
        depthwise: (size, size, channels, multiplier), as TensorFlow's depthwise operation takes it.
        blocks: how many kernels of fewer filters it is stored as, see `onednn.blocks`.
        left_alone: TensorFlow's optimizer has nothing to do with it in a graph for oneDNN.
    """

    depthwise: bool = False
    blocks: int = 1
    left_alone: bool = True


class Footprint(NamedTuple):
    """What of a section is in memory, in floats of one picture; see `memory_budget`.

    Attributes:
        output: what it puts out, once all of it is there; 0 if that may never be made.
        peak: what is in memory at once while it is computed.
        in_parts: a pool may take the output part by part.
        joined: the output is made of other sections' outputs.
    """

    output: int = 0
    peak: int = 0
    in_parts: bool = False
    joined: bool = False


Lower = Callable[[Lowering, Any, Sequence[Tensor]], Tensor]
LowerInParts = Callable[[Lowering, Any, Sequence[Joined]], "Joined | None"]
Hold = Callable[[Any, int, bool], Footprint]
FormKernel = Callable[..., KernelForm]

LOWERINGS: dict[type[cfg.Layer], Lower] = {}
"""Class of a section -> what writes it."""
_IN_PARTS: dict[type[cfg.Layer], LowerInParts] = {}
_FOOTPRINTS: dict[type[cfg.Layer], Hold] = {}
_KERNEL_FORMS: dict[type[cfg.Layer], FormKernel] = {}

_Function = TypeVar("_Function", bound=Callable[..., Any])


def lowers(*classes: type[cfg.Layer]) -> Callable[[_Function], _Function]:
    """Registers what writes sections of `classes`: `(lowering, layer, inputs) -> output`."""
    return _registering(LOWERINGS, classes)


def lowers_in_parts(*classes: type[cfg.Layer]) -> Callable[[_Function], _Function]:
    """Registers what is asked before, where convolutions are fused.

    `(lowering, layer, inputs) -> output`, channels not joined yet, or None where they have to be.
    """
    return _registering(_IN_PARTS, classes)


def holds(*classes: type[cfg.Layer]) -> Callable[[_Function], _Function]:
    """Registers `(layer, before, in_parts) -> Footprint`, see `footprint`."""
    return _registering(_FOOTPRINTS, classes)


def stores_kernel(*classes: type[cfg.Layer]) -> Callable[[_Function], _Function]:
    """Registers `(layer, as_stored=, use_onednn=) -> KernelForm`, see `kernel_form`."""
    return _registering(_KERNEL_FORMS, classes)


def _registering(
    registry: dict[type[cfg.Layer], Any], classes: Sequence[type[cfg.Layer]]
) -> Callable[[_Function], _Function]:
    def register(function: _Function) -> _Function:
        registry.update(dict.fromkeys(classes, function))
        return function

    return register


def key_of(index: int, role: str, part: str = "") -> str:
    """The key of an array or state in `NetworkGraph`: `17/kernel`, `17/input/kernel`."""
    return f"{index}/{part}/{role}" if part else f"{index}/{role}"


def kernel_form(layer: cfg.Layer, *, as_stored: bool, use_onednn: bool) -> KernelForm:
    """How a graph has the kernel of a section.

    Args:
        layer: any section, or a part of one.
        as_stored: see `Lowering`.
        use_onednn: convolutions are oneDNN's operation.
    """
    form = _KERNEL_FORMS.get(type(layer))
    return form(layer, as_stored=as_stored, use_onednn=use_onednn) if form else KernelForm()


def footprint(layer: cfg.Layer, before: int, in_parts: bool) -> Footprint:
    """What of a section is in memory; nothing is known of most.

    Args:
        layer: any section.
        before: floats of its inputs.
        in_parts: one of them may come in parts.
    """
    hold = _FOOTPRINTS.get(type(layer))
    return hold(layer, before, in_parts) if hold else Footprint()
