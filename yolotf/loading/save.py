"""`save_darknet_weights`: writes the variables of a model to a Darknet `.weights` file."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolotf import argument_numbers
from yolotf._public import public, renamed, warn_caller
from yolotf.darknet import cfg
from yolotf.darknet.graph_checks import BN_EPSILON
from yolotf.errors import ContentError, ModelMismatchError
from yolotf.files import atomic, output_target
from yolotf.files.paths import StrPath
from yolotf.interfaces import KerasModel
from yolotf.loading import origins
from yolotf.loading.argument_checks import forbid_in_tf_function, is_inference_object
from yolotf.loading.origins import Origin
from yolotf.loading.plan import network_for, plan_for
from yolotf.models import order_by_file, traversal, undrawn
from yolotf.models.differences import differences as model_differences
from yolotf.models.layer_names import network_of
from yolotf.models.readings import extra_biases, readings
from yolotf.models.traversal import name_of
from yolotf.models.variables import has_adapter, plain, quantization
from yolotf.text import listed
from yolotf.weights import layout, own_files
from yolotf.weights.header import NARROW, WIDE, Header
from yolotf.weights.refusal import HUGE_TEXT
from yolotf.weights.statistics import HUGE

_VERSION = (0, 2, 5)
"""The version that Darknet writes (AlexeyAB/darknet src/version.h)."""
_FLOATING = ("float32", "float64", "float16", "bfloat16")


@public
@renamed(file="weights")
@forbid_in_tf_function
@argument_numbers.flags_checked("fold_epsilon")
def save_darknet_weights(
    model: KerasModel,
    weights: StrPath,
    *,
    network: cfg.Network | cfg.Source | None = None,
    seen: int | None = None,
    version: Sequence[int] | None = None,
    upto: int | None = None,
    fold_epsilon: bool = False,
    overwrite: bool = True,
) -> int:
    """Writes the variables of a built model to a Darknet `.weights` file, atomically.

    The file appears complete and synced. If anything fails, an existing file is unchanged;
    `yolotf.files.atomic` lists the attributes (owner, mode, ...) that its replacement keeps.
    Anything but a regular file, such as a device, is not replaced.

    A model that was loaded from a `.weights` file and not modified is saved as the same bytes. A
    batch normalization whose epsilon is not Darknet's 1e-5 causes a `UserWarning`. A bias before
    a batch normalization, which Darknet does not have, is subtracted from the moving mean.

    Args:
        model: a model from `build_model`, or any model that `load_darknet_weights` accepts.
        weights: the file to write.
        network: the network that determines the order of the file, as for
            `load_darknet_weights`; by default the model's own, that of the file it was loaded
            from, or the order inferred from its structure.
        seen: number of images trained on, for the header; by default as in the file that was
            loaded, otherwise 0.
        version: major, minor, revision; by default as in the file that was loaded, otherwise
            Darknet's 0.2.5.
        upto: write only the first `upto` sections, as `darknet partial` does for
            `yolov4.conv.137`.
        fold_epsilon: add the difference between the model's epsilon and Darknet's to the
            variances in the file, so that Darknet computes what the model does.
        overwrite: whether to replace an existing file.

    Returns:
        The size of the file in bytes.

    Raises:
        ModelMismatchError: the model does not match the network, its batch normalization is
            folded, its kernels are quantized, or several orders are equally likely; nothing was
            written.
        ContentError: a value is not finite or a variance is negative, which no load would
            accept, or `fold_epsilon` would make one negative; nothing was written.
        ValueError: `seen`, `version` or `upto` is out of range.
        OSError: the file cannot be written, is the cfg, or exists and `overwrite` is False; an
            existing file is unchanged.
    """
    inputs = [network] if isinstance(network, str | os.PathLike) else []
    output_target.checked_target(weights, overwrite=overwrite, inputs=inputs)
    _refuse_derived(model)
    origin = origins.of(model)
    header = _header(origin, seen, version)
    plan = _plan(model, network, origin, transposed=header.transposed)
    assignments = _assignments(plan, upto)
    name = name_of(model)
    for assignment in assignments:
        _check(name, assignment)
    merged = _with_adapters(model)
    biases = _extra_biases(model, assignments)
    epsilons = _epsilon_differences(model, assignments)
    if epsilons and not fold_epsilon:
        warn_caller(_epsilon_warning(name, epsilons.values()))
    for difference in model_differences(model, plan.network, plan.assignments):
        if difference.kind != "epsilon":
            warn_caller(f"{name}: {difference.message}")
    size = header.size_bytes + sum(assignment.segment.size_bytes for assignment in assignments)
    with atomic.replacing_file(weights, overwrite=overwrite, inputs=inputs) as written:
        output_target.reserve(written.fileno(), size)
        written.write(header.to_bytes())
        for assignment in assignments:
            values = _stored(assignment, merged)
            if assignment.segment in biases:
                values = values - biases[assignment.segment].reshape(values.shape)
            if fold_epsilon and assignment.segment in epsilons:
                values = values + np.float32(epsilons[assignment.segment][1])
            _check_content(name, plan, header, assignment, values)
            written.write(values.data)
    if upto is None:
        own_files.remember(weights, plan.network)
    return size


def _refuse_derived(model: Any) -> None:
    """Raises `ModelMismatchError` for a folded or quantized model, whose weights were changed."""
    if is_inference_object(model):
        raise ModelMismatchError(
            f"{type(model).__name__}: its batch normalization is folded into the kernels, from "
            "which gamma, mean and variance cannot be recovered; save a Keras model instead"
        )
    for layer in traversal.layers(model):
        if (mode := quantization(layer)) is not None:
            raise ModelMismatchError(
                f"{getattr(layer, 'name', layer)}: is quantized ({mode}), and Darknet stores "
                "float32; save the model before quantizing it",
                layer=getattr(layer, "name", None),
            )


def _plan(model: Any, network: Any, origin: Origin | None, *, transposed: bool) -> layout.Plan:
    known = network_of(model) if network is None else network_for(model, network)
    if known is not None:
        return plan_for(model, known, transposed=transposed)
    if origin is not None:
        if transposed == origin.header.transposed:
            return origin.plan
        if origin.plan.network is not None:
            return plan_for(model, origin.plan.network, transposed=transposed)
    structure = readings(model)[0]
    order = order_by_file.preferred(structure)
    return layout.Plan(
        order_by_file.assignments(order, transposed=transposed), structure.floats, None
    )


def _assignments(plan: layout.Plan, upto: int | None) -> tuple[layout.Assignment, ...]:
    """Returns the assignments to write, those of the first `upto` sections.

    Raises:
        ModelMismatchError: a section stores floats that the model does not have.
        ValueError: `upto` is out of range, or there is no network to count sections of.
    """
    network, assignments = plan.network, plan.assignments
    if upto is not None:
        if network is None:
            raise ValueError("upto counts the sections of a cfg; pass network=")
        upto = argument_numbers.integer("upto", upto)
        if not 0 < upto <= len(network.layers):
            raise ValueError(
                f"upto={upto} must be 1 to {len(network.layers)}, the number of sections of "
                f"{network.source}"
            )
        assignments = tuple(
            assignment for assignment in assignments if assignment.segment.layer < upto
        )
    end = 0
    for assignment in assignments:
        if assignment.segment.offset != end:
            raise _missing_layer(network, end)
        end = assignment.segment.end
    if network is not None:
        last = len(network.layers) if upto is None else upto
        stored = [segment for segment in layout.segments(network) if segment.layer < last]
        if stored and stored[-1].end != end:
            raise _missing_layer(network, end)
    return assignments


def _missing_layer(network: cfg.Network | None, offset: int) -> ModelMismatchError:
    """Returns the error for floats at `offset` that the model has no layer for."""
    assert network is not None, "without a network, every segment comes from a layer"
    segment = next(segment for segment in layout.segments(network) if segment.end > offset)
    where = network.where(network.layers[segment.layer])
    return ModelMismatchError(
        f"{network.source}: {where} stores floats, but no output depends on it and the model has "
        "no layer for it; remove the section from the cfg",
        section=segment.layer,
    )


def _check(name: str, assignment: layout.Assignment) -> None:
    slot = assignment.slot
    facts = {"variable": slot.name, "role": slot.role, "section": assignment.segment.layer}
    if slot.dtype not in _FLOATING:
        raise ModelMismatchError(
            f"{name}: variable {slot.name} is {slot.dtype}, so the model is quantized, and Darknet "
            "stores float32; save the model before quantizing it",
            expected="float32",
            found=slot.dtype,
            **facts,
        )
    if slot.shape != assignment.shape:
        raise ModelMismatchError(
            f"{name}: variable {slot.name} is {slot.shape}, the network has {assignment.shape} "
            "there; pass the network that the model was built from with network=, or --cfg",
            expected=assignment.shape,
            found=slot.shape,
            **facts,
        )


def _header(origin: Origin | None, seen: int | None, version: Sequence[int] | None) -> Header:
    before = origin.header if origin is not None else None
    if version is None:
        major, minor, revision = before[:3] if before is not None else _VERSION
    else:
        try:
            numbers = [argument_numbers.integer("version", part) for part in version]
        except TypeError:  # also of a value that is not a sequence
            raise TypeError(
                f"version={version!r:.80} must be three whole numbers, as in (0, 2, 5)"
            ) from None
        if len(numbers) != 3 or not all(0 <= part < 2**31 for part in numbers):
            raise ValueError(
                f"version={version!r} must be (major, minor, revision), each from 0 to {2**31 - 1}"
            )
        major, minor, revision = numbers
    if seen is not None:
        seen = argument_numbers.integer("seen", seen)
    else:
        seen = before.seen if before is not None else 0
    header = Header(major, minor, revision, seen, WIDE)
    # Some writers gave `seen` a width that does not match their version; it is kept.
    keeps = before is not None and version is None
    size = before.size_bytes if before is not None and keeps else header.version_size_bytes
    if not 0 <= seen < 2 ** (32 if size == NARROW else 64):
        bits = 8 * (size - 12)
        raise ValueError(
            f"seen={seen} must be 0 to {2**bits - 1}: the header has {bits} bits for it"
        )
    return header._replace(size_bytes=size)


def _with_adapters(model: Any) -> dict[int, Any]:
    """Maps the id of each kernel with a LoRA adapter to the merged kernel the layer uses."""
    return {
        id(layer._kernel): layer.kernel for layer in traversal.layers(model) if has_adapter(layer)
    }


def _stored(assignment: layout.Assignment, merged: Mapping[int, Any]) -> NDArray[np.float32]:
    """Returns the values of a variable, or of its merged kernel, in the order of the file."""
    import tensorflow as tf  # imported here: a Keras model has imported it already

    holder = assignment.slot.holder
    undrawn.draw([holder])
    source = merged.get(id(holder), assignment.slot.variable)
    with np.errstate(over="ignore"):  # a float64 out of float32's range is refused as infinite
        values = np.asarray(tf.convert_to_tensor(source)).astype(np.float32, copy=False)
    # Keras stores spatial, channels, filters; Darknet filters, channels, spatial.
    keras_order = values.reshape(
        assignment.blocks, assignment.spatial, assignment.channels, assignment.filters
    )
    return np.ascontiguousarray(keras_order.transpose(0, 3, 2, 1), "<f4")


def _extra_biases(
    model: Any, assignments: Sequence[layout.Assignment]
) -> dict[layout.Segment, NDArray[np.float32]]:
    """Returns biases before batch normalizations, keyed by the segment of their moving mean.

    Darknet has no such bias; subtracting it from the mean is equivalent:
    x + bias - mean = x - (mean - bias).
    """
    if network_of(model) is not None:  # `build_model` adds no such bias
        return {}
    import tensorflow as tf  # as in `_stored`

    segments = {id(assignment.slot.variable): assignment.segment for assignment in assignments}
    return {
        segments[id(mean.variable)]: np.asarray(tf.convert_to_tensor(bias.variable), np.float32)
        for bias, mean in extra_biases(model, assignments)
        if id(mean.variable) in segments
    }


def _epsilon_differences(
    model: Any, assignments: Sequence[layout.Assignment]
) -> dict[layout.Segment, tuple[str, float]]:
    """Returns (variable name, epsilon minus Darknet's) of layers whose epsilon is not Darknet's.

    Keyed by the segment of the moving variance, because names in a model need not be unique.
    """
    epsilons = {
        id(plain(layer.moving_variance)): float(layer.epsilon)
        for layer in traversal.layers(model)
        if hasattr(layer, "epsilon") and getattr(layer, "moving_variance", None) is not None
    }
    differences: dict[layout.Segment, tuple[str, float]] = {}
    for assignment in assignments:
        if assignment.slot.role == "moving_variance":
            difference = epsilons.get(id(assignment.slot.variable), BN_EPSILON) - BN_EPSILON
            if abs(difference) > 1e-9:
                differences[assignment.segment] = assignment.slot.name, difference
    return differences


def _epsilon_warning(name: str, differences: Collection[tuple[str, float]]) -> str:
    epsilons = sorted({round(value + BN_EPSILON, 12) for _, value in differences})
    layers = [variable.rpartition("/")[0] for variable, _ in differences]
    shown = listed(layers, 4)
    plural = "s have" if len(layers) > 1 else " has"
    return (
        f"{name}: {len(layers)} batch normalization{plural} epsilon "
        f"{', '.join(f'{epsilon:g}' for epsilon in epsilons)}, Darknet {BN_EPSILON:g}, so "
        f"Darknet's results with this file differ from the model's ({shown}); pass "
        "fold_epsilon=True, or --fold-epsilon, to move the difference into the variances"
    )


def _check_content(
    name: str,
    plan: layout.Plan,
    header: Header,
    assignment: layout.Assignment,
    values: NDArray[np.float32],
) -> None:
    """Refuses values that every load would refuse, so that the file can be read again.

    Raises:
        ContentError: with the variable, the number of bad values, and their bytes in the file.
    """
    bad = ~np.isfinite(values)
    problem = "not finite"
    if not bad.any():
        bad = np.abs(values) >= HUGE
        problem = f"{HUGE_TEXT} or more"
    if assignment.slot.role == "moving_variance" and not bad.any():
        # Dead channels have subnormal variances of either sign; Darknet reads them as 0.
        bad = values <= -np.finfo(np.float32).tiny
        problem = "negative"
    places = np.flatnonzero(bad)
    if not places.size:
        return
    segment, value = assignment.segment, values.flat[places[0]]
    first, last = (
        header.size_bytes + segment.offset + layout.FLOAT_BYTES * int(place)
        for place in (places[0], places[-1] + 1)
    )
    where = f"layer {segment.layer}"
    if plan.network is not None:
        where = plan.network.where(plan.network.layers[segment.layer])
    raise ContentError(
        f"{name}: variable {assignment.slot.name} has {places.size} of {values.size} values that "
        f"are {problem}, the first {value:g}; {segment.role} of {where}, bytes {first}..{last} of "
        "the file; nothing was written, because every load would refuse the file",
        variable=assignment.slot.name,
        role=segment.role,
        layer=segment.layer,
        section=segment.layer,
        offset=first,
        end=last,
        found=int(places.size),
    )
