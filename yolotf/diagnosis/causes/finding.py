"""`Finding`, the base of causes and warnings.

A finding is also a mapping with the keys of its JSON: `kind`, the facts, `message` and, for a
cause, `fix`. Fields marked `MESSAGE_ONLY` appear only in the message and are left out of the JSON.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from yolotf.text import escaped

MESSAGE_ONLY = {"message_only": True}
"""Marks a field that appears only in the message."""
OPTIONAL = {"optional": True}
"""Marks a field that is left out of the JSON if it is None."""


_TITLES = {
    "not_weights": "not a weights file",
    "class_count": "wrong number of classes",
    "channels": "wrong number of input channels",
    "architecture": "another network",
    "head_filters": "heads of another size",
    "folded": "batch normalization folded",
    "layer_shape": "a layer differs",
    "truncated": "ends too early",
    "partial_backbone": "only a backbone",
    "trailing": "too long",
    "unknown": "another network",
    "header_width": "unusual header",
    "unverified": "not verified",
    "same_size_networks": "other networks of the same size",
}
"""Readable titles of the kinds; for any other kind, its name with spaces."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Finding(Mapping[str, Any]):
    """A cause or a warning.

    Attributes:
        path: name of the file.
    """

    kind: ClassVar[str]  # an instance field in a class of several kinds
    _old_fields: ClassVar[Mapping[str, str]] = {}
    """Current names of renamed fields, by the names that older pickles contain."""

    path: str = field(metadata=MESSAGE_ONLY)

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Restores a pickled finding, also one with the old names of fields."""
        vars(self).update({self._old_fields.get(name, name): state[name] for name in state})

    def _sentence(self) -> str:
        """Returns the message without the file's name."""
        raise NotImplementedError

    @property
    def message(self) -> str:
        """What is wrong, with both numbers, and where; control characters are escaped."""
        return escaped(f"{self.path}: {self._sentence()}")

    @property
    def fix(self) -> str | None:
        """What to change; None for a warning."""
        return None

    @property
    def text(self) -> str:
        """The message without the file's name."""
        return self._sentence()

    @property
    def title(self) -> str:
        """A readable title of the kind."""
        return _TITLES.get(self.kind) or self.kind.replace("_", " ")

    def to_dict(self) -> dict[str, Any]:
        """Returns the finding as in the JSON."""
        document: dict[str, Any] = {"kind": self.kind}
        for fact in dataclasses.fields(self):
            value = getattr(self, fact.name)
            if fact.metadata.get("message_only"):
                continue
            if value is None and fact.metadata.get("optional"):
                continue
            document[fact.name] = _as_json(value)
        document["message"] = self.message
        if (fix := self.fix) is not None:
            document["fix"] = fix
        return document

    def __getitem__(self, key: str) -> Any:
        return self.to_dict()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.to_dict())

    def __len__(self) -> int:
        return len(self.to_dict())


def _as_json(value: Any) -> Any:
    """Converts tuples to lists, as in JSON."""
    return [_as_json(item) for item in value] if isinstance(value, tuple) else value
