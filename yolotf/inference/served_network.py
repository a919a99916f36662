"""The weights that a `Detector` or `Classifier` computes with now."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from yolotf.weights.file import WeightsFile
from yolotf.weights.header import Header


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
