"""The errors and notes about layers that file and model do not both have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from yolotf.darknet import cfg
from yolotf.errors import ModelMismatchError
from yolotf.loading import partial
from yolotf.models.layer_names import every_layer
from yolotf.models.traversal import name_of
from yolotf.models.units import readings
from yolotf.models.variables import quantization
from yolotf.text import listed, plural
from yolotf.weights import layout
from yolotf.weights.file import WeightsFile


def refuse_quantized(model: Any, file: WeightsFile) -> None:
    """Raises `ModelMismatchError` for a layer whose kernel is quantized."""
    for layer in every_layer(model):
        if (how := quantization(layer)) is not None:
            raise ModelMismatchError(
                f"{file.name}: layer {layer.name} of {name_of(model)} is quantized ({how}), "
                "and the file holds float32; load the file before the model is quantized",
                path=file.name,
                layer=layer.name,
                quantization=how,
            )


def refuse_names(
    file: WeightsFile, network: cfg.Network, pairing: partial.Pairing, strict: bool
) -> None:
    """Raises if layers of the same name differ in shape or, if `strict`, a name has no partner."""
    unpaired = [*pairing.untouched, *pairing.unused] if strict else []
    if not pairing.skipped and not unpaired:
        return
    problems, fixes = [], []
    if pairing.skipped:
        count = len(pairing.skipped)
        problems.append(
            f"{plural(count, 'layer')} of the same name "
            f"{'have' if count > 1 else 'has'} another shape: {_some(map(str, pairing.skipped))}"
        )
        fixes.append("pass skip_mismatch=True to load the others")
    if unpaired:
        theirs = partial.likely_meant(pairing.spare, pairing.left)
        ours = {name: meant for meant, name in theirs.items()}
        lines = [
            f"{name}: no such layer in {network.source}{_meant(ours.get(name))}"
            for name in pairing.untouched
        ]
        lines += [
            f"{name}: no such layer in the model{_meant(theirs.get(name))}"
            for name in pairing.unused
        ]
        count = len(lines)
        problems.append(f"{plural(count, 'name has', 'names have')} no partner: {_some(lines)}")
        fixes.append("rename them, or pass strict=False to load the others")
    raise ModelMismatchError(
        f"{file.name}: {'; '.join((*problems, *fixes))}",
        path=file.name,
        skipped=pairing.skipped,
        untouched=pairing.untouched,
        unused=pairing.unused,
    )


def _meant(name: str | None) -> str:
    return f"; did you mean {name}?" if name else ""


def refuse_unpaired(
    file: WeightsFile,
    network: cfg.Network,
    skipped: Sequence[partial.Skipped],
    pairing: partial.Pairing,
) -> None:
    """Raises if layers differ in shape, or only one side has them."""
    problems = [str(layer) for layer in skipped]
    problems += [f"{name}: nothing in {network.source} for it" for name in pairing.untouched]
    problems += [f"{name} of {network.source}: no place in the model" for name in pairing.unused]
    if not problems:
        return
    raise ModelMismatchError(
        f"{file.name}: {plural(len(problems), 'layer does', 'layers do')} not fit: "
        f"{_some(problems)}; pass "
        "skip_mismatch=True to load the others",
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
        f"pairing with {network.source} is equally likely: {_some(layers)}; name "
        f"{'it' if len(layers) == 1 else 'them'} after the sections (conv_17) to decide",
    )


def _some(texts: Iterable[str], most: int = 6) -> str:
    return listed(texts, most, "; ")


def refuse_more(model: Any, network: cfg.Network, assignments: Sequence[layout.Assignment]) -> None:
    """Raises if the model has a layer with weights that the network does not have."""
    bound = {id(assignment.slot.variable) for assignment in assignments}
    structure = readings(model, skips_bare=True)[0]
    if structure.bare:
        name = structure.bare[0]
        raise ModelMismatchError(
            f"{name_of(model)}: {network.source} has nothing for layer {name}, which has neither a "
            "bias nor a batch normalization; pass skip_mismatch=True to leave it unchanged",
            variable=name,
        )
    for unit in structure.units:
        if not any(id(slot.variable) in bound for slot in unit.slots.values()):
            shape = partial.ModelLayer(unit.name, unit.slots).shape
            raise ModelMismatchError(
                f"{name_of(model)}: {network.source} has nothing for layer {unit.name}, whose "
                f"shape is {shape}; pass skip_mismatch=True to leave it unchanged",
                variable=unit.name,
            )
