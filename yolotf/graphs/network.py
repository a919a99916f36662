"""A network with folded batch normalization, described once for all graphs.

`NetworkGraph` defines the arrays a network computes with, where they are in the file, and the
operations from images to raw heads. The runtime, `build_function` and exports build their graphs
from it. TensorFlow is not imported.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

from yolotf.darknet import cfg, graph_checks
from yolotf.darknet.roles import Role
from yolotf.graphs import sections as sections  # registers the section writers
from yolotf.graphs.lazy_concat import Chunk, LazyConcat
from yolotf.graphs.lowering import KernelForm, Lowering, kernel_form, key_of
from yolotf.graphs.operations import Operations, Tensor
from yolotf.weights import layout


class NetworkGraph:
    """The arrays and operations of a network.

    Attributes:
        network: the network.
        onednn: whether convolutions use oneDNN's operation, see `yolotf.graphs.onednn`.
        skip_grappler: whether TensorFlow's graph optimizer cannot improve the graph.
        shapes: shapes of the arrays, by section and role, as `17/kernel`. A convolution has
            `kernel` (HWIO, or (size, size, channels, multiplier) if depthwise) and `bias`, with or
            without batch normalization; `[batchnorm]` has `scale` and `bias`. With `onednn`, both
            arrays of a wide convolution are in blocks, see `onednn.convolve`. Parts of recurrent
            sections are named in between, as `17/input/kernel`.
        axes: for arrays kept in Darknet's order of axes, the position of each axis in Keras'
            order: (3, 2, 0, 1) for OIHW.
        states: shapes of the recurrent state, by section and name, as `17/state`; if there is any,
            `heads` takes one frame at a time.
    """

    def __init__(self, network: cfg.Network, *, use_onednn: bool, as_stored: bool = False) -> None:
        """Describes every section.

        Args:
            network: the network.
            use_onednn: see `onednn`.
            as_stored: keep kernels in Darknet's order of axes, and write every convolution as one
                operation (`convolution.convolve_in_groups`), also where TensorFlow needs several.

        Raises:
            UnsupportedSectionError: a section is not supported, or has no weights in the file
                (`dontload`).
        """
        self.network = network
        self.onednn = use_onednn
        self._as_stored = as_stored
        self._used = sorted(graph_checks.used_layers(network))
        self._forms: dict[tuple[int, str], KernelForm] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.states: dict[str, tuple[int, ...]] = {}
        self.axes: dict[str, tuple[int, ...]] = {}
        for index in self._used:
            layer = network.layers[index]
            graph_checks.check_layer(network, layer)
            for name, part in layer.parts.items():
                form = kernel_form(part, as_stored=as_stored, use_onednn=use_onednn)
                self._forms[index, name] = form if part is layer else form._replace(blocks=1)
            for role, shape in self._folded_shapes(layer).items():
                self.shapes[key_of(index, role)] = self._in_blocks(index, shape)
                axes = _STORED_AXES.get((role.rpartition("/")[2], len(shape)))
                if as_stored and axes and not layer.flips_kernel:
                    self.axes[key_of(index, role)] = axes
            for name, extents in layer.states.items():
                self.states[key_of(index, name)] = (1, *extents)
        self._blocks = {index: form.blocks for (index, _), form in self._forms.items()}
        self.skip_grappler = use_onednn and all(form.is_optimal for form in self._forms.values())

    def _in_blocks(self, index: int, shape: tuple[int, ...]) -> tuple[int, ...]:
        form = self._forms.get((index, ""))
        if form is None or form.blocks == 1:
            return shape
        return (form.blocks, *shape[:-1], shape[-1] // form.blocks)

    def blocks_of(self, key: str) -> int:
        """Returns the number of blocks that the array is stored in."""
        return self._blocks.get(int(key.split("/")[0]), 1)

    def plan(self, *, transposed: bool) -> layout.Plan:
        """Returns which floats of a file go into which array; slots are named as in `shapes`.

        Args:
            transposed: as in the file's header, see `Header`.
        """
        return self._transposed_plan if transposed else self._plan

    @functools.cached_property
    def _plan(self) -> layout.Plan:
        return self._planned(transposed=False)

    @functools.cached_property
    def _transposed_plan(self) -> layout.Plan:
        return self._planned(transposed=True)

    def _planned(self, *, transposed: bool) -> layout.Plan:
        by_part: dict[tuple[int, str], dict[str, layout.Segment]] = {
            (index, name): {} for index in self._used for name in self.network.layers[index].parts
        }
        for segment in layout.segments(self.network, transposed=transposed):
            if (segment.layer, segment.part) in by_part:
                by_part[segment.layer, segment.part][segment.role] = segment
        assignments: list[layout.Assignment] = []
        for (index, name), segments in by_part.items():
            assignments += self._assignments(self.network.layers[index], name, segments)
        return layout.Plan(tuple(assignments), layout.floats(self.network), self.network)

    def _assignments(
        self, layer: cfg.Layer, name: str, segments: dict[str, layout.Segment]
    ) -> list[layout.Assignment]:
        """Returns the assignments of a section or part, with batch normalization folded."""
        form = self._forms[layer.index, name]

        def slot(role: str) -> layout.Slot:
            key = key_of(layer.index, role, name)
            return layout.Slot(
                name=f"{layer.type}_{key.replace('/', '_', key.count('/') - 1)}",
                role=role,
                variable=key,
                shape=self.shapes[key],
                dtype="float32",
                depthwise=form.depthwise and role == "kernel" and not layer.flips_kernel,
                blocks=form.blocks,
                as_stored=self._as_stored,
            )

        gamma = segments.get("gamma")
        if gamma is None:
            return [layout.assignment(segment, slot(role)) for role, segment in segments.items()]
        kernel = segments.get("kernel")
        if kernel is None:
            multiplier = layout.folded(gamma, gamma, slot("scale"))
        elif layer.flips_kernel:  # the graph multiplies by gamma
            beta = layout.folded(segments["beta"], gamma, slot("bias"))
            scale = layout.folded(gamma, gamma, slot("scale"))
            return [beta, scale, layout.assignment(kernel, slot("kernel"))]
        elif kernel.transposed:
            raise graph_checks.refuse(
                self.network,
                layer,
                "batch_normalize=1 with a kernel that the file stores transposed is not supported",
                "batch_normalize",
            )
        else:
            multiplier = layout.folded(kernel, gamma, slot("kernel"))
        return [layout.folded(segments["beta"], gamma, slot("bias")), multiplier]

    def heads(
        self,
        ops: Operations,
        images: Tensor,
        weights: Callable[[str], Tensor],
        *,
        fused: bool,
        fuses_mish: bool = True,
        resizable: bool = False,
        states: Mapping[str, Tensor] | None = None,
        written: Callable[[cfg.Layer, Tensor], None] | None = None,
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Writes the operations from images to raw heads.

        Args:
            ops: where to write them; with `fused` they include oneDNN's, see `onednn.convolve`.
            images: images, [batch, rows, columns, channels] float32, 0..1; a batch of 1 with
                `states`.
            weights: returns the array of a key of `shapes`; in blocks only with `fused`.
            fused: use oneDNN's operation for convolutions; False: standard operations only.
            fuses_mish: Mish may be fused with a convolution; False: write it in a faster form.
            resizable: rows and columns may differ from the cfg's.
            states: the recurrent state, by the keys of `self.states`.
            written: called with each section and its output once it is written; not with `fused`,
                where an output may be in parts.

        Returns:
            The inputs of the heads in cfg order, or the last section's output if there is no head;
            and the recurrent state for the next frame.
        """
        lowering = Lowering(
            ops,
            self.network,
            images,
            weights,
            blocks=self._blocks,
            fused=fused,
            fuses_mish=fuses_mish,
            resizable=resizable,
            as_stored=self._as_stored,
            states=states or {},
        )
        channels = self.network.input_shape.channels
        outputs = {cfg.NETWORK_INPUT: LazyConcat(ops, [Chunk(images, channels)])}
        for index in self._used:
            layer = self.network.layers[index]
            outputs[index] = lowering.section(layer, [outputs[number] for number in layer.inputs])
            if written is not None and not fused:
                written(layer, outputs[index].whole())
        ends = graph_checks.output_layers(self.network)
        return [outputs[index].whole() for index in ends], lowering.kept

    def _folded_shapes(self, layer: cfg.Layer) -> dict[str, tuple[int, ...]]:
        """Returns role and shape of a section's arrays after folding batch normalization."""
        stored = list(layer.stored())
        shapes: dict[str, tuple[int, ...]] = {}
        for name, part in layer.parts.items():
            arrays = {role: shape for of, role, shape in stored if of == name}
            for role, shape in arrays.items():
                if role in (Role.MOVING_MEAN, Role.MOVING_VARIANCE) or (
                    role is Role.GAMMA and Role.KERNEL in arrays and not layer.flips_kernel
                ):
                    continue
                key = _FOLDED.get(role, role.value)
                shapes[f"{name}/{key}" if name else key] = self._shape_of(
                    part, self._forms[layer.index, name], role, shape
                )
        if not shapes:
            return {}
        keys = ["dontload"]
        if any(role is Role.BETA and not part for part, role, _ in stored):
            keys.append("dontloadscales")
        key = layer.set_key(*keys)
        if key:
            raise graph_checks.refuse(
                self.network,
                layer,
                f"{key}=1, so the file holds no weights for it and it cannot be computed; remove "
                f"{key}= if the file was saved without it",
                key,
            )
        return shapes

    def _shape_of(
        self, part: cfg.Layer, form: KernelForm, role: Role, shape: tuple[int, ...]
    ) -> tuple[int, ...]:
        """Returns the shape of an array whose shape in the file is `shape`."""
        if role is Role.KERNEL and part.flips_kernel:
            return shape
        depthwise = role is Role.KERNEL and form.depthwise
        multiplier = (shape[0] // part.input_shape.channels,) if depthwise else ()
        slot = layout.Slot(
            "",
            role,
            None,
            multiplier,
            "float32",
            depthwise=depthwise,
            as_stored=self._as_stored,
        )
        return layout.assignment(layout.Segment(part.index, "", role, 0, shape), slot).shape


_FOLDED = {Role.BETA: "bias", Role.GAMMA: "scale"}
"""Roles that batch normalization is folded into, each with mean and variance."""


_STORED_AXES = {("kernel", 4): (3, 2, 0, 1), ("kernel", 2): (1, 0), ("bias", 3): (2, 0, 1)}
"""Positions of Darknet's axes in Keras' order, by role and rank."""
