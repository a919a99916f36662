"""Adds a diagnosis to the errors of functions that load a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from yolotf import errors
from yolotf.darknet import cfg
from yolotf.weights.file import WeightsFile

FUNCTION_ADVICE = "pass classes={classes} to build_function"
"""Advice of functions, whose network cannot change; see `Diagnosis.with_argument`."""


def with_diagnosis(
    error: errors.WeightsMismatch,
    file: WeightsFile,
    network: cfg.Network,
    argument: str | None = None,
) -> errors.WeightsMismatch:
    """Returns the error with a diagnosis.

    If the error is about the file, the summary of the diagnosis replaces its message.

    Args:
        error: the error of the load.
        file: the weights file.
        network: the network it was loaded into.
        argument: see `Diagnosis.with_argument`; None: the caller takes `classes`.
    """
    if isinstance(error, errors.FileChangedError):
        return error
    from yolotf.diagnosis import diagnose  # lazy: takes 0.1 s and is only needed on failure

    diagnosis = diagnose(file, network).with_argument(argument)
    facts = {**error.facts, "diagnosis": diagnosis}
    explains = diagnosis.causes and error.is_about_file
    return type(error)(diagnosis.summary() if explains else error.message, **facts)


@contextmanager
def diagnosed(
    file: WeightsFile, network: cfg.Network, argument: str | None = None
) -> Iterator[None]:
    """Adds a diagnosis to a `WeightsMismatch` raised in the block; see `with_diagnosis`."""
    try:
        yield
    except errors.WeightsMismatch as error:
        raise with_diagnosis(error, file, network, argument) from None
