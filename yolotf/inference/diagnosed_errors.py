"""Adds a diagnosis to the errors of every function that loads a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from yolotf import errors
from yolotf.darknet import cfg
from yolotf.weights.file import WeightsFile

OF_FUNCTIONS = "pass classes={classes} to build_function"
"""Advice of functions, which keep their network; see `Diagnosis.with_argument`."""


def explained(
    error: errors.WeightsMismatch,
    file: WeightsFile,
    network: cfg.Network,
    argument: str | None = None,
) -> errors.WeightsMismatch:
    """Returns the error with a diagnosis, whose summary replaces a message about the file.

    Args:
        error: the error of the load.
        file: the weights file.
        network: the network it was loaded into.
        argument: see `Diagnosis.with_argument`; None: the caller takes `classes`.
    """
    if isinstance(error, errors.FileChangedError):
        return error
    from yolotf.diagnosis import diagnose  # lazy: takes 0.1 s and is only needed on failure

    found = diagnose(file, network)
    if argument is not None:
        found = found.with_argument(argument)
    facts = {**error.facts, "diagnosis": found}
    summary = found.causes and error.is_about_file
    return type(error)(found.summary() if summary else error.message, **facts)


@contextmanager
def diagnosed(
    file: WeightsFile, network: cfg.Network, argument: str | None = None
) -> Iterator[None]:
    """Adds a diagnosis to a `WeightsMismatch` raised in the block; see `explained`."""
    try:
        yield
    except errors.WeightsMismatch as error:
        raise explained(error, file, network, argument) from None
