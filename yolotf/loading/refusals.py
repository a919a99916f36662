"""The errors and notes about layers that file and model do not both have."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from yolotf.darknet import cfg
from yolotf.errors import ModelMismatchError
from yolotf.loading import partial
from yolotf.models.layer_names import every_layer
from yolotf.models.readings import readings
from yolotf.models.traversal import name_of
from yolotf.models.variables import quantization
from yolotf.text import listed, plural
from yolotf.weights import layout
from yolotf.weights.file import WeightsFile


def refuse_quantized(model: Any, file: WeightsFile) -> None:
    """Raises `ModelMismatchError` for a layer whose kernel is quantized."""
    for layer in every_layer(model):
        if (mode := quantization(layer)) is not None:
            raise ModelMismatchError(
                f"{file.name}: layer {layer.name} of {name_of(model)} is quantized ({mode}), "
                "the file holds float32; load the file before quantizing the model",
                path=file.name,
                layer=layer.name,
                quantization=mode,
            )


def refuse_names(
    file: WeightsFile,
    network: cfg.Network,
    pairing: partial.Pairing,
    beyond: Collection[str],
    strict: bool,
) -> None:
    """Raises if layers of one name differ in shape or, if `strict`, a name has no counterpart.

    Layers `beyond` the end of a backbone file need none.
    """
    untouched = [name for name in pairing.untouched if name not in beyond]
    unpaired = [*untouched, *pairing.unused] if strict else []
    if not pairing.skipped and not unpaired:
        return
    problems, fixes = [], []
    if pairing.skipped:
        count = len(pairing.skipped)
        problems.append(
            f"{plural(count, 'layer')} of the same name "
            f"{'differ' if count > 1 else 'differs'} in shape: {_first(map(str, pairing.skipped))}"
        )
        fixes.append("pass skip_mismatch=True to load the other layers")
    if unpaired:
        in_model = partial.similar_names(pairing.unpaired_in_file, pairing.unpaired_in_model)
        in_file = {model_name: file_name for file_name, model_name in in_model.items()}
        lines = [
            f"{name}: no such layer in {network.source}{_suggestion(in_file.get(name))}"
            for name in untouched
        ]
        lines += [
            f"{name}: no such layer in the model{_suggestion(in_model.get(name))}"
            for name in pairing.unused
        ]
        count = len(lines)
        problems.append(
            f"{plural(count, 'name has', 'names have')} no counterpart: {_first(lines)}"
        )
        layers = "this layer" if count == 1 else "these layers"
        fixes.append(f"rename {layers}, or pass strict=False to load the other layers")
    raise ModelMismatchError(
        f"{file.name}: {'; '.join((*problems, *fixes))}",
        path=file.name,
        skipped=pairing.skipped,
        untouched=pairing.untouched,
        unused=pairing.unused,
    )


def _suggestion(name: str | None) -> str:
    return f"; did you mean {name}?" if name else ""


def refuse_unpaired(
    file: WeightsFile,
    network: cfg.Network,
    skipped: Sequence[partial.Skipped],
    pairing: partial.Pairing,
    beyond: Collection[str],
) -> None:
    """Raises if layers differ in shape, or only one side has them.

    Layers `beyond` the end of a backbone file may be in the model only.
    """
    problems = [str(layer) for layer in skipped]
    problems += [
        f"{name}: no counterpart in {network.source}"
        for name in pairing.untouched
        if name not in beyond
    ]
    problems += [
        f"{name} of {network.source}: no counterpart in the model" for name in pairing.unused
    ]
    if not problems:
        return
    raise ModelMismatchError(
        f"{file.name}: {plural(len(problems), 'layer does', 'layers do')} not match: "
        f"{_first(problems)}; pass skip_mismatch=True to load the other layers",
        path=file.name,
        skipped=pairing.skipped,
        untouched=pairing.untouched,
        unused=pairing.unused,
    )


def note_of_doubts(doubts: Sequence[partial.Doubt], network: cfg.Network) -> tuple[str, ...]:
    """Returns the note about layers left unchanged because several sections match equally well."""
    if not doubts:
        return ()
    layers = [f"{doubt.layer} ({' or '.join(doubt.sections)})" for doubt in doubts]
    count = plural(len(layers), "layer")
    return (
        f"{count} {'was' if len(layers) == 1 else 'were'} left unchanged because more than one "
        f"pairing with {network.source} is equally likely: {_first(layers)}; name "
        f"{'the layer' if len(layers) == 1 else 'the layers'} after their sections, such as "
        "conv_17",
    )


def _first(texts: Iterable[str]) -> str:
    return listed(texts, 6, "; ")


def refuse_extra_layers(
    model: Any, network: cfg.Network, assignments: Sequence[layout.Assignment]
) -> None:
    """Raises if the model has a layer with weights that the network does not have."""
    bound = {id(assignment.slot.variable) for assignment in assignments}
    structure = readings(model, skips_bare=True)[0]
    if structure.bare:
        name = structure.bare[0]
        raise ModelMismatchError(
            f"{name_of(model)}: {network.source} has no section for layer {name}, which has "
            "neither a bias nor a batch normalization; pass skip_mismatch=True to "
            "leave the layer unchanged",
            variable=name,
        )
    for unit in structure.units:
        if not any(id(slot.variable) in bound for slot in unit.slots.values()):
            shape = partial.ModelLayer(unit.name, unit.slots).shape
            raise ModelMismatchError(
                f"{name_of(model)}: {network.source} has no section for layer {unit.name}, whose "
                f"shape is {shape}; pass skip_mismatch=True to leave the layer unchanged",
                variable=unit.name,
            )
