"""Adds a diagnosis to the errors of every function that loads a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from yolotf import errors
from yolotf.darknet import cfg
from yolotf.weights.file import WeightsFile


def explained(
    error: errors.WeightsMismatch, file: WeightsFile, network: cfg.Network
) -> errors.WeightsMismatch:
    """Returns the error with a diagnosis, whose summary replaces a message about the file.

    Args:
        error: the error of the load.
        file: the weights file.
        network: the network it was loaded into.
    """
    if isinstance(error, errors.FileChangedError):
        return error
    from yolotf.diagnosis import diagnose  # lazy: takes 0.1 s and is only needed on failure

    found = diagnose(file, network)
    facts = {**error.facts, "diagnosis": found}
    summary = found.causes and error.is_about_file
    return type(error)(found.summary() if summary else error.message, **facts)


@contextmanager
def diagnosed(file: WeightsFile, network: cfg.Network) -> Iterator[None]:
    """Adds a diagnosis to a `WeightsMismatch` raised in the block; see `explained`."""
    try:
        yield
    except errors.WeightsMismatch as error:
        raise explained(error, file, network) from None
