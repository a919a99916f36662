"""Lowering of sections to operations, and the registry of its functions.

`yolotf.graphs.sections` registers functions by a section's class: `lowers` for its operations and,
where needed, `lowers_in_parts`, `uses_memory` and `stores_kernel`. Code that writes a graph uses
this registry and names no section.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from yolotf.darknet import cfg, graph_checks
from yolotf.darknet.layer import activation_of, registers
from yolotf.graphs import activations
from yolotf.graphs.lazy_concat import Chunk, LazyConcat
from yolotf.graphs.operations import Operations, Tensor


@dataclass
class Lowering:
    """The state of a graph while its sections are written.

    Attributes:
        ops: where operations are written, see `yolotf.graphs.operations`.
        network: the network.
        images: images, [batch, rows, columns, channels] float32, 0..1.
        weights: returns the array of a key, see `key_of`.
        blocks: the number of blocks of each section's kernel, by section index.
        fused: whether convolutions use oneDNN's operation, see `onednn.convolve`, rather than
            standard operations only.
        fuses_mish: whether TensorFlow, or what reads the graph, may fuse Mish with a convolution.
        resizable: whether rows and columns may differ from the cfg's.
        as_stored: whether kernels have Darknet's order of axes, and every convolution is a single
            operation.
        states: the recurrent state of the previous frame, by key.
        kept: the recurrent state for the next frame, by key; filled as sections are written.
    """

    ops: Operations
    network: cfg.Network
    images: Tensor
    weights: Callable[[str], Tensor]
    blocks: Mapping[int, int]
    fused: bool
    fuses_mish: bool
    resizable: bool
    as_stored: bool
    states: Mapping[str, Tensor]
    kept: dict[str, Tensor] = field(default_factory=dict)
    _arrays: dict[str, Tensor] = field(default_factory=dict)

    def array(self, layer: cfg.Layer, role: str, part: str = "") -> Tensor:
        """Returns an array of a section, or of a part of a recurrent section; read once."""
        key = key_of(layer.index, role, part)
        if key not in self._arrays:
            self._arrays[key] = self.weights(key)
        return self._arrays[key]

    def input_shapes(self, layer: cfg.Layer) -> list[cfg.Shape]:
        """Returns the shape of each input, as in the cfg."""
        return [self.network.shape(index) for index in layer.inputs]

    def activated(self, layer: cfg.Layer, x: Tensor, *, after_bias: bool = False) -> Tensor:
        """Applies the section's activation to `x`, directly after a bias or not."""
        activation = activation_of(layer)
        if activation == "mish" and not self.fuses_mish:
            return activations.mish_by_exp(self.ops, x)
        activate = activations.activate_fused if after_bias else activations.activate
        return activate(self.ops, x, activation)

    def section(self, layer: cfg.Layer, inputs: Sequence[LazyConcat]) -> LazyConcat:
        """Writes a section.

        Raises:
            UnsupportedSectionError: no lowering is registered for its class.
        """
        cls = type(layer)
        if self.fused and cls in _IN_PARTS:
            in_parts = _IN_PARTS[cls](self, layer, inputs)
            if in_parts is not None:
                return in_parts
        if cls not in LOWERINGS:
            raise graph_checks.refuse(
                self.network, layer, f"no graph computes [{layer.type}]; inspect and check read it"
            )
        x = LOWERINGS[cls](self, layer, [value.whole() for value in inputs])
        return LazyConcat(self.ops, [Chunk(x, layer.output_shape.channels)])


class KernelForm(NamedTuple):
    """How a graph stores the kernel of a section.

    Attributes:
        depthwise: as (size, size, channels, multiplier), for TensorFlow's depthwise operation.
        blocks: as this many kernels with fewer filters each, see `onednn.blocks`.
        is_optimal: TensorFlow's optimizer cannot improve it in a graph for oneDNN.
    """

    depthwise: bool = False
    blocks: int = 1
    is_optimal: bool = True


class Footprint(NamedTuple):
    """The memory that a section uses, in floats per image; see `memory_budget`.

    Attributes:
        output: the complete output; 0 if it may never be materialized.
        peak: the peak while the section is computed.
        in_parts: a pool may read the output part by part.
        joined: the output consists of other sections' outputs.
    """

    output: int = 0
    peak: int = 0
    in_parts: bool = False
    joined: bool = False


Lower = Callable[[Lowering, Any, Sequence[Tensor]], Tensor]
LowerInParts = Callable[[Lowering, Any, Sequence[LazyConcat]], "LazyConcat | None"]
ComputeFootprint = Callable[[Any, int, bool], Footprint]
FormKernel = Callable[..., KernelForm]

LOWERINGS: dict[type[cfg.Layer], Lower] = {}
"""The lowering of each class of section."""
_IN_PARTS: dict[type[cfg.Layer], LowerInParts] = {}
_FOOTPRINTS: dict[type[cfg.Layer], ComputeFootprint] = {}
_KERNEL_FORMS: dict[type[cfg.Layer], FormKernel] = {}

_Function = TypeVar("_Function", bound=Callable[..., Any])


def lowers(*classes: type[cfg.Layer]) -> Callable[[_Function], _Function]:
    """Registers the lowering of `classes`: `(lowering, layer, inputs) -> output`."""
    return registers(LOWERINGS, classes)


def lowers_in_parts(*classes: type[cfg.Layer]) -> Callable[[_Function], _Function]:
    """Registers a lowering that is tried first if convolutions are fused.

    `(lowering, layer, inputs) -> output`, in parts, or None if the parts must be concatenated.
    """
    return registers(_IN_PARTS, classes)


def uses_memory(*classes: type[cfg.Layer]) -> Callable[[_Function], _Function]:
    """Registers `(layer, input_floats, in_parts) -> Footprint`, see `footprint`."""
    return registers(_FOOTPRINTS, classes)


def stores_kernel(*classes: type[cfg.Layer]) -> Callable[[_Function], _Function]:
    """Registers `(layer, as_stored=, use_onednn=) -> KernelForm`, see `kernel_form`."""
    return registers(_KERNEL_FORMS, classes)


def key_of(index: int, role: str, part: str = "") -> str:
    """Returns the key of an array or state in `NetworkGraph`: `17/kernel`, `17/input/kernel`."""
    return f"{index}/{part}/{role}" if part else f"{index}/{role}"


def kernel_form(layer: cfg.Layer, *, as_stored: bool, use_onednn: bool) -> KernelForm:
    """Returns how a graph stores the kernel of a section.

    Args:
        layer: any section, or a part of one.
        as_stored: see `Lowering`.
        use_onednn: convolutions use oneDNN's operation.
    """
    form = _KERNEL_FORMS.get(type(layer))
    return form(layer, as_stored=as_stored, use_onednn=use_onednn) if form else KernelForm()


def footprint(layer: cfg.Layer, input_floats: int, in_parts: bool) -> Footprint:
    """Returns the memory that a section uses; zeros if its class registers nothing.

    Args:
        layer: any section.
        input_floats: floats of its inputs.
        in_parts: an input may be in parts.
    """
    compute = _FOOTPRINTS.get(type(layer))
    return compute(layer, input_floats, in_parts) if compute else Footprint()
