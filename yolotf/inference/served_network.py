"""The weights that a `Detector` or `Classifier` computes with now."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from yolotf.weights.file import WeightsFile
from yolotf.weights.header import Header

Owner = TypeVar("Owner")


@dataclass(frozen=True)
class ServedWeights:
    """The file whose numbers a detector computes with.

    Attributes:
        path: of the file, or what was given in its place.
        header: its header.
    """

    path: str
    header: Header

    @property
    def seen(self) -> int:
        """Pictures it was trained on."""
        return self.header.seen


@dataclass(frozen=True, eq=False)
class Served:
    """Weights in memory, and what they are called; freed with the last request that uses them."""

    loaded: Any
    about: ServedWeights
    is_file: bool

    @classmethod
    def of(cls, loaded: Any, file: WeightsFile) -> Served:
        """What was loaded from `file`."""
        return cls(loaded, ServedWeights(file.name, loaded.header), file.is_named_file)

    def file(self, owner: str) -> str:
        """The path from which another process can read them.

        Raises:
            TypeError: they came from elsewhere than a file.
        """
        if not self.is_file:
            raise TypeError(
                f"a {owner} whose weights came from {self.about.path} cannot be pickled or "
                "copied; only files can be read again: write them to one"
            )
        return os.path.abspath(self.about.path)  # noqa: PTH100 - keeps links as they are


def unpickled(make: Callable[[], Owner], owner: str, path: str) -> Owner:
    """What was pickled, made again.

    Args:
        make: makes it.
        owner: what it is called.
        path: of the weights file, which `make` reads.

    Raises:
        FileNotFoundError: the file is not there.
        Exception: `make` raised it.
    """
    try:
        return make()
    except FileNotFoundError as error:
        if error.filename != path:
            raise
        raise FileNotFoundError(
            errno.ENOENT,
            f"a pickled {owner} holds the path of its weights, not their numbers, and there is "
            "no such file here; put it there, or make the "
            f"{owner} from where the file is now",
            path,
        ) from error
