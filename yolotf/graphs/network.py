"""The network with batch normalization folded into its kernels: described once, for every graph.

`NetworkGraph` says which arrays a network computes with, where in the file they come from, and
which operations lead from pictures to raw heads. The runtime, `build_function` and exports build
their graphs from it. No TensorFlow here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from yolotf.darknet import cfg
from yolotf.darknet import graph_checks as graph_rules
from yolotf.darknet.class_tree import tree_of
from yolotf.darknet.roles import Role
from yolotf.darknet.sections.antialiased import sharp
from yolotf.graphs import onednn, operations, recurrent
from yolotf.graphs.lazy_concat import Joined, Part
from yolotf.weights import layout
from yolotf.weights.once import once_each

Tensor = Any


class NetworkGraph:
    """What a network computes, and with what.

    Attributes:
        network: what it was made from.
        onednn: whether convolutions are oneDNN's operation, see `yolotf.graphs.onednn`.
        needs_no_optimizer: whether TensorFlow's optimizer has nothing to do in the graph.
        shapes: of the arrays, by section and role, `17/kernel`. A convolution has `kernel` (HWIO,
            or (size, size, channels, multiplier) where it is depthwise) and `bias`, with or
            without batch norm; `[batchnorm]` has `scale` and `bias`. With `onednn`, wide
            convolutions have both in blocks, see `onednn.convolve`. Parts of recurrent sections
            are named between the two, `17/input/kernel`.
        axes: of the arrays that are kept in Darknet's order of axes: the place of each axis in
            Keras' order, (3, 2, 0, 1) for OIHW.
        states: shapes of what is kept from one frame to the next, by section and name,
            `17/state`; with any, `heads` takes one frame at once.
    """

    def __init__(self, network: cfg.Network, *, use_onednn: bool, as_stored: bool = False) -> None:
        """Looks at every section.

        Args:
            network: the network.
            use_onednn: see `onednn`.
            as_stored: kernels keep Darknet's order of axes, and every convolution is one
                operation (`operations.convolve_in_groups`), also where TensorFlow needs another.

        Raises:
            UnsupportedSectionError: a section that cannot be built, or that the file holds
                nothing for (`dontload`).
        """
        self.network = network
        self.onednn = use_onednn
        self._as_stored = as_stored
        self._used = sorted(graph_rules.used_layers(network))
        self._blocks: dict[int, int] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.states: dict[str, tuple[int, ...]] = {}
        self.axes: dict[str, tuple[int, ...]] = {}
        for index in self._used:
            layer = network.layers[index]
            graph_rules.check_layer(network, layer)
            if use_onednn and isinstance(layer, cfg.Convolutional):
                self._blocks[index] = onednn.blocks(layer)
            for role, shape in _folded_shapes(network, layer, as_stored).items():
                self.shapes[_key(index, role)] = self._in_blocks(index, shape)
                axes = _STORED_AXES.get((role.rpartition("/")[2], len(shape)))
                if as_stored and axes and not getattr(layer, "flips_kernel", False):
                    self.axes[_key(index, role)] = axes
            for name, extents in layer.states.items():
                self.states[_key(index, name)] = (1, *extents)
        used = [layer for index in self._used for layer in _parts(network.layers[index]).values()]
        self.needs_no_optimizer = use_onednn and all(
            onednn.supports(layer) for layer in used if isinstance(layer, cfg.Convolutional)
        )

    def _in_blocks(self, index: int, shape: tuple[int, ...]) -> tuple[int, ...]:
        blocks = self._blocks.get(index, 1)
        return shape if blocks == 1 else (blocks, *shape[:-1], shape[-1] // blocks)

    def blocks_of(self, key: str) -> int:
        """How many blocks the array is stored in."""
        return self._blocks.get(int(key.split("/")[0]), 1)

    @once_each
    def plan(self, *, transposed: bool) -> layout.Plan:
        """Which floats of a file go where: the variables of its slots are the keys of `shapes`.

        Args:
            transposed: as the file's header says, see `Header`.
        """
        by_part: dict[tuple[int, str], dict[str, layout.Segment]] = {
            (index, name): {} for index in self._used for name in _parts(self.network.layers[index])
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
        """What goes where of one section or part, batch normalization folded."""
        part = _parts(layer)[name]
        depthwise = isinstance(part, cfg.Convolutional) and self._is_depthwise(part)

        def slot(role: str) -> layout.Slot:
            key = _key(layer.index, role, name)
            return layout.Slot(
                name=f"{layer.type}_{key.replace('/', '_', key.count('/') - 1)}",
                role=role,
                variable=key,
                shape=self.shapes[key],
                dtype="float32",
                depthwise=depthwise and role == "kernel" and not layer.flips_kernel,
                blocks=self._blocks.get(layer.index, 1),
                as_stored=self._as_stored,
            )

        gamma = segments.get("gamma")
        if gamma is None:
            return [layout.assignment(segment, slot(role)) for role, segment in segments.items()]
        kernel = segments.get("kernel")
        if kernel is None:
            multiplier = layout.folded(gamma, gamma, slot("scale"))
        elif layer.flips_kernel:  # the graph multiplies
            beta = layout.folded(segments["beta"], gamma, slot("bias"))
            scale = layout.folded(gamma, gamma, slot("scale"))
            return [beta, scale, layout.assignment(kernel, slot("kernel"))]
        elif kernel.transposed:
            raise graph_rules.refuse(
                self.network,
                layer,
                "batch_normalize=1 in a file with a transposed kernel",
                "batch_normalize",
            )
        else:
            multiplier = layout.folded(kernel, gamma, slot("kernel"))
        return [layout.folded(segments["beta"], gamma, slot("bias")), multiplier]

    def _is_depthwise(self, layer: cfg.Convolutional) -> bool:
        """Whether the kernel has the shape that TensorFlow's depthwise operation takes."""
        return not self._as_stored and operations.is_depthwise(layer)

    def heads(
        self,
        ops: operations.Operations,
        pictures: Tensor,
        weights: Callable[[str], Tensor],
        *,
        fused: bool,
        resizable: bool = False,
        states: Mapping[str, Tensor] | None = None,
        written: Callable[[cfg.Layer, Tensor], None] | None = None,
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Writes the operations from pictures to raw heads, in cfg order.

        Args:
            ops: where to write them; with `fused` they include oneDNN's, see `onednn.convolve`.
            pictures: [batch, rows, columns, channels] float32, 0..1; a batch of 1 with `states`.
            weights: gives the array of a key of `shapes`; in blocks only with `fused`.
            fused: convolutions are oneDNN's operation; else standard operations only.
            resizable: rows and columns may be others than the cfg says.
            states: what has been kept, by the keys of `self.states`.
            written: called with each section and its output as soon as it is written; not with
                `fused`, where an output may be in parts.

        Returns:
            What enters the heads, or what the last section puts out if there is no head; and what
            is to be kept for the next frame.
        """
        read: dict[str, Tensor] = {}

        def array(layer: cfg.Layer, role: str, part: str = "") -> Tensor:
            key = _key(layer.index, role, part)
            if key not in read:
                read[key] = weights(key)
            return read[key]

        channels = self.network.input_shape.channels
        tensors = {cfg.NETWORK_INPUT: Joined(ops, [Part(pictures, channels)])}
        kept: dict[str, Tensor] = {}
        for index in self._used:
            layer = self.network.layers[index]
            entering = [tensors[number] for number in layer.inputs]
            in_parts = self._in_parts(ops, layer, entering, array) if fused else None
            if in_parts is not None:
                tensors[index] = in_parts
                continue
            inputs = [one.whole() for one in entering]
            if isinstance(layer, cfg.Recurrent):
                x, after = self._recurrent(ops, layer, inputs[0], array, fused, states or {})
                kept |= after
            else:
                x = self._section(ops, layer, inputs, array, pictures, fused, resizable)
                if not isinstance(layer, cfg.Convolutional | cfg.Connected):
                    x = operations.activate(ops, x, getattr(layer, "activation", "linear"))
            if written is not None and not fused:
                written(layer, x)
            shape = graph_rules.shape_of(self.network, index)
            tensors[index] = Joined(ops, [Part(x, shape.channels)])
        outputs = graph_rules.output_layers(self.network)
        return [tensors[index].whole() for index in outputs], kept

    def _in_parts(
        self,
        ops: operations.Operations,
        layer: cfg.Layer,
        entering: list[Joined],
        array: _Array,
    ) -> Joined | None:
        """What a section puts out, where its channels need not be joined; else None."""
        if getattr(layer, "antialiasing", False):
            return None
        match layer:
            case cfg.Convolutional() if onednn.supports(layer) and not layer.xnor:
                owner, kernel, bias = self._kernel(ops, layer, array)
                blocks = self._blocks.get(owner.index, 1)
                x = entering[0].whole()
                found = onednn.convolve_in_parts(ops, x, kernel, bias, layer, blocks)
                return Joined(ops, [Part(y, layer.filters // len(found)) for y in found])
            case cfg.Route():
                groups = [one.group(layer.groups, layer.group_id) for one in entering]
                parts = [part for one in groups if one is not None for part in one.parts]
                return None if None in groups else Joined(ops, parts)
            case cfg.Pool() if not layer.maxpool_depth and layer.stride_x * layer.stride_y > 1:
                # What is joined behind it is smaller.
                return entering[0].each(lambda x: operations.pool(ops, x, layer))
            case _:
                return None

    def _kernel(
        self, ops: operations.Operations, layer: cfg.Convolutional, array: _Array
    ) -> tuple[cfg.Convolutional, Tensor, Tensor]:
        """The section whose kernel a convolution uses, the kernel as it multiplies, the bias."""
        owner = graph_rules.kernel_owner(self.network, layer)
        kernel, bias = array(owner, "kernel"), array(owner, "bias")
        if owner.flips_kernel:
            scale = array(owner, "scale") if owner.batch_normalize else None
            kernel = operations.unflip(
                ops, kernel, scale, owner, depthwise=self._is_depthwise(owner)
            )
        return owner, kernel, bias

    def _recurrent(
        self,
        ops: operations.Operations,
        layer: cfg.Recurrent,
        x: Tensor,
        array: _Array,
        fused: bool,
        states: Mapping[str, Tensor],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        parts = _parts(layer)

        def part(name: str, entering: Tensor) -> Tensor:
            kernel, bias = array(layer, "kernel", name), array(layer, "bias", name)
            if isinstance(one := parts[name], cfg.Convolutional):
                return self._convolution(ops, entering, kernel, bias, one, fused=fused)
            assert isinstance(one, cfg.Connected)
            return _connected(ops, entering, kernel, bias, one)

        before = {name: states[_key(layer.index, name)] for name in layer.states}
        y, after = recurrent.step(ops, layer, x, before, part)
        return y, {_key(layer.index, name): after[name] for name in before}

    def _convolution(
        self,
        ops: operations.Operations,
        x: Tensor,
        kernel: Tensor,
        bias: Tensor,
        layer: cfg.Convolutional,
        *,
        fused: bool,
        blocks: int = 1,
    ) -> Tensor:
        if fused and onednn.supports(layer):
            return onednn.convolve(ops, x, kernel, bias, layer, blocks)
        if self._as_stored:
            x = operations.convolve_in_groups(ops, x, kernel, layer)
            x = operations.add_bias(ops, x, bias)
        else:
            groups = 1 if operations.is_depthwise(layer) else layer.groups
            x = operations.convolve(ops, x, kernel, layer)
            x = operations.add_bias(ops, x, bias, groups=groups)
        return operations.activate_fused(ops, x, layer.activation)

    def _section(
        self,
        ops: operations.Operations,
        layer: cfg.Layer,
        inputs: list[Tensor],
        array: _Array,
        pictures: Tensor,
        fused: bool,
        resizable: bool,
    ) -> Tensor:
        x = inputs[0] if inputs else pictures
        match layer:
            case cfg.Convolutional() | cfg.Pool() if layer.antialiasing:
                x = self._section(ops, sharp(layer), inputs, array, pictures, fused, resizable)
                return operations.blur(ops, x, layer.blur, layer.output_shape.channels)
            case cfg.Convolutional():
                owner, kernel, bias = self._kernel(ops, layer, array)
                blocks = self._blocks.get(owner.index, 1) if fused else 1
                if layer.xnor:
                    side, (below, right) = layer.padding, layer.overhang
                    x = operations.signs_in_frame(
                        ops, x, [side, side + below], [side, side + right]
                    )
                    kernel = operations.binarize(ops, kernel, 4 if blocks == 1 else 5)
                return self._convolution(ops, x, kernel, bias, layer, fused=fused, blocks=blocks)
            case cfg.Connected():
                return _connected(ops, x, array(layer, "kernel"), array(layer, "bias"), layer)
            case cfg.History():
                return recurrent.history(ops, x, layer.history_size)
            case cfg.Local():
                side, (below, right) = int(layer.pad), layer.overhang
                x = operations.convolve_locally(
                    ops,
                    x,
                    array(layer, "kernel"),
                    layer.output_shape,
                    channels=layer.input_shape.channels,
                    size=layer.size,
                    stride=layer.stride,
                    padding=[[side, side + below], [side, side + right]],
                )
                return ops.AddV2(x=x, y=array(layer, "bias"))
            case cfg.Batchnorm():
                x = ops.Mul(x=x, y=array(layer, "scale"))
                return ops.AddV2(x=x, y=array(layer, "bias"))
            case cfg.Pool():
                return operations.pool(ops, x, layer)
            case cfg.Avgpool():
                return operations.average(ops, x)
            case cfg.Route():
                shapes = [graph_rules.shape_of(self.network, index) for index in layer.inputs]
                channels = [shape.channels for shape in shapes]
                return operations.route(ops, inputs, channels, layer)
            case cfg.Shortcut():
                factors = None
                if layer.nweights:
                    factors = operations.shortcut_factors(
                        ops, array(layer, "weights"), layer.weights_normalization
                    )
                shapes = [graph_rules.shape_of(self.network, index) for index in layer.inputs]
                columns = layer.nweights // len(layer.inputs)
                return operations.shortcut(ops, inputs, shapes, factors, columns)
            case cfg.ScaleChannels() | cfg.Sam():
                return ops.Mul(x=x, y=inputs[1])
            case cfg.Upsample():
                return operations.upsample(ops, x, layer, resizable=resizable)
            case cfg.Reorg():
                return operations.reorg(ops, x, layer)
            case cfg.Softmax():
                if not layer.tree:
                    return operations.softmax(ops, x, layer)
                shape = layer.input_shape
                groups = tree_of(self.network, layer.tree, shape.floats).groups
                return operations.tree_softmax(ops, x, shape, groups, layer.temperature)
            case cfg.Crop():
                return operations.crop(ops, x, layer)
            case cfg.Normalization():
                return operations.normalize(
                    ops,
                    x,
                    layer.input_shape.channels,
                    size=layer.size,
                    alpha=layer.alpha,
                    beta=layer.beta,
                    kappa=layer.kappa,
                )
            case cfg.Implicit():
                return operations.implicit(
                    ops, array(layer, "weights"), pictures, layer.filters, layer.atoms
                )
            case cfg.Dropout() | cfg.Passive() | cfg.Activation():
                return x
            case _:
                raise graph_rules.refuse(self.network, layer, f"[{layer.type}] cannot be built")


_Array = Callable[..., Tensor]
"""Of a section, a role and, in recurrent sections, a part."""


def _key(index: int, role: str, part: str = "") -> str:
    return f"{index}/{part}/{role}" if part else f"{index}/{role}"


def _parts(layer: cfg.Layer) -> dict[str, cfg.Layer]:
    """What computes with arrays of its own: the section, or the parts of a recurrent one."""
    if isinstance(layer, cfg.Recurrent):
        return {part.name: part.layer for part in layer.sublayers}
    return {"": layer}


def _connected(
    ops: operations.Operations, x: Tensor, kernel: Tensor, bias: Tensor, layer: cfg.Connected
) -> Tensor:
    x = operations.connect(ops, x, kernel, layer)
    x = operations.add_bias(ops, x, bias)
    x = operations.activate_fused(ops, x, layer.activation)
    return ops.Reshape(tensor=x, shape=[-1, 1, 1, layer.output])


_FOLDED = {Role.BETA: "bias", Role.GAMMA: "scale"}
"""What becomes of a batch normalization; mean and variance are in both."""


_STORED_AXES = {("kernel", 4): (3, 2, 0, 1), ("kernel", 2): (1, 0), ("bias", 3): (2, 0, 1)}
"""By role and rank: where the axes of Darknet's order are in Keras'."""


def _folded_shapes(
    network: cfg.Network, layer: cfg.Layer, as_stored: bool
) -> dict[str, tuple[int, ...]]:
    """Role and shape of what a section needs once batch normalization is folded."""
    stored = list(layer.stored())
    shapes: dict[str, tuple[int, ...]] = {}
    for name, part in _parts(layer).items():
        arrays = {role: shape for of, role, shape in stored if of == name}
        for role, shape in arrays.items():
            if role in (Role.MOVING_MEAN, Role.MOVING_VARIANCE) or (
                role is Role.GAMMA and Role.KERNEL in arrays and not layer.flips_kernel
            ):
                continue
            key = _FOLDED.get(role, role.value)
            shapes[f"{name}/{key}" if name else key] = _shape_of(part, role, shape, as_stored)
    if not shapes:
        return {}
    keys = ["dontload"]
    if any(role is Role.BETA and not part for part, role, _ in stored):
        keys.append("dontloadscales")
    key = graph_rules.set_key(layer, *keys)
    if key:
        raise graph_rules.refuse(
            network, layer, f"{key}=1: the file holds no numbers for it, so nothing can run", key
        )
    return shapes


def _shape_of(
    layer: cfg.Layer, role: Role, shape: tuple[int, ...], as_stored: bool
) -> tuple[int, ...]:
    """The shape of an array whose shape in the file is `shape`."""
    if role is Role.KERNEL and layer.flips_kernel:
        return shape
    depthwise = (
        role is Role.KERNEL
        and isinstance(layer, cfg.Convolutional)
        and not as_stored
        and operations.is_depthwise(layer)
    )
    multiplier = (shape[0] // layer.input_shape.channels,) if depthwise else ()
    slot = layout.Slot(
        "", role, None, multiplier, "float32", depthwise=depthwise, as_stored=as_stored
    )
    return layout.assignment(layout.Segment(layer.index, "", role, 0, shape), slot).shape
