"""The weights that a replica serves, and reloads on changes of `user_config`."""

import enum
from collections.abc import Mapping
from logging import getLogger
from typing import Any

from yolotf.errors import YolotfError
from yolotf.files import magic, sources
from yolotf.inference import Detector
from yolotf.text import printable

_log = getLogger("ray.serve")

_LONGEST_PATH = 4096
_LONGEST_SHOWN = 300
"""Characters of a bad `user_config` to show."""


class Outcome(enum.Enum):
    """The result of applying a `user_config`."""

    SAME = enum.auto()
    CHANGED = enum.auto()
    REFUSED = enum.auto()


class ServedFile:
    """A detector's weights file; if a new file is refused, the old one stays.

    Attributes:
        refused: the last refused `weights` and the `error`; None if the last change succeeded.
    """

    def __init__(self, detector: Detector, weights: str) -> None:
        self._detector = detector
        self._weights = weights
        self.refused: dict[str, str] | None = None

    def change(self, user_config: Any) -> Outcome:
        """Loads the file that `user_config` names, if it is a different one.

        Never raises: if `reconfigure` raised for a bad configuration or file, Ray would restart the
        replica with the same configuration forever.
        """
        try:
            weights = _weights_of(user_config)
            if weights is None or weights == self._weights:
                outcome = Outcome.SAME
            else:
                self._detector.reload(weights)
                self._weights = weights
                outcome = Outcome.CHANGED
            self.refused = None
        except Exception as error:
            self.refused = _described(user_config, error)
            _log.error("kept the old weights: %s", self.refused["error"])
            outcome = Outcome.REFUSED
        return outcome


class _BadConfigError(ValueError):
    """An invalid `user_config`."""


def _weights_of(user_config: Any) -> str | None:
    """Returns the file that a `user_config` names; None if it names none.

    Raises:
        _BadConfigError: the configuration is invalid.
    """
    if user_config is None:
        return None
    if not isinstance(user_config, Mapping):
        kind = type(user_config).__name__
        raise _BadConfigError(f"user_config must be {{weights: PATH}}, not {kind}")
    unknown = [key for key in user_config if key != "weights"]
    if unknown:
        names = ", ".join(_short(str(key)) for key in unknown[:3])
        raise _BadConfigError(f"user_config takes only weights, not {names}")
    weights = user_config.get("weights")
    if weights is None:
        return None
    if not isinstance(weights, str):
        raise _BadConfigError(f"weights must be a path or URL, not {type(weights).__name__}")
    if not weights or len(weights) > _LONGEST_PATH:
        raise _BadConfigError(
            f"weights has {len(weights)} characters, but a path has 1 to {_LONGEST_PATH}"
        )
    if weights != weights.strip():
        raise _BadConfigError(
            "weights begins or ends with a blank or line break; write `weights: PATH`, or >- for a "
            "block of YAML"
        )
    if weights != printable(weights) or "\n" in weights:
        raise _BadConfigError("weights contains control characters; rename the file")
    return weights


def _short(text: str) -> str:
    text = printable(text.replace("\n", "\\n"))
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _described(user_config: Any, error: Exception) -> dict[str, str]:
    """Returns the error for `/status`, without secrets of a URL, words of the file or process data.

    A `user_config` may name any file, and anyone who reaches the service can read `/status`.
    """
    has_message = isinstance(error, YolotfError | OSError | _BadConfigError)
    reason = str(error) if has_message else f"loading failed: {type(error).__name__}"
    weights = user_config.get("weights") if isinstance(user_config, Mapping) else user_config
    name = sources.shown_url(weights) if isinstance(weights, str) else type(weights).__name__
    reason = printable(sources.redacted(magic.without_quotes(reason)))
    if len(name) > _LONGEST_SHOWN:
        reason = reason.replace(name, _short(name))
    return {"weights": _short(name), "error": reason}
