"""An error of a load, with the diagnosis: what every door that loads a file raises."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from yolotf import errors
from yolotf.darknet import cfg
from yolotf.weights.file import WeightsFile


def explained(
    error: errors.WeightsMismatch, file: WeightsFile, network: cfg.Network
) -> errors.WeightsMismatch:
    """The same error with a diagnosis; its message where the file is what does not fit.

    Args:
        error: what the load raised.
        file: the file.
        network: that it was meant for.
    """
    if isinstance(error, errors.FileChangedError):
        return error
    from yolotf.diagnosis import diagnose  # a tenth of a second that no good start waits for

    found = diagnose(file, network)
    facts = {**error.facts, "diagnosis": found}
    summary = found.causes and error.is_about_file
    return type(error)(found.summary() if summary else error.message, **facts)


@contextmanager
def diagnosed(file: WeightsFile, network: cfg.Network) -> Iterator[None]:
    """Around a load: a `WeightsMismatch` leaves with its diagnosis; see `explained`."""
    try:
        yield
    except errors.WeightsMismatch as error:
        raise explained(error, file, network) from None
