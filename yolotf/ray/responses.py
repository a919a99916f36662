"""Builds the HTTP response of a request from its results, in the format that `Accept` asks for."""

import io
import uuid
from collections.abc import Sequence
from typing import Any

import fastapi

from yolotf.files.json import to_json
from yolotf.images.detections import Detections
from yolotf.images.read import open_picture
from yolotf.ray.images import BAD_REQUEST, Failure

_OK = 200


class Result:
    """The detections of one image, or why there are none.

    Attributes:
        outcome: the detections, or the failure.
    """

    def __init__(self, data: bytes, outcome: Detections | Failure, max_pixels: int) -> None:
        self._data = data
        self._max_pixels = max_pixels
        self.outcome = outcome

    @property
    def failure(self) -> Failure | None:
        """Why the image has no detections; None if it has."""
        return self.outcome if isinstance(self.outcome, Failure) else None

    def to_dict(self) -> dict[str, Any]:
        """Returns the image's part of the JSON response."""
        if isinstance(self.outcome, Failure):
            return {"error": self.outcome.reason}
        return self.outcome.to_dict()

    def drawn(self, format: str) -> bytes:
        """Returns the encoded image with its boxes; decodes it again, since pixels are not kept."""
        assert isinstance(self.outcome, Detections)
        image = open_picture(self._data, max_pixels=self._max_pixels).convert("RGB")
        encoded = io.BytesIO()
        self.outcome.draw(image).save(encoded, format)
        return encoded.getvalue()


def response(accept: str, results: Sequence[Result], *, single: bool) -> fastapi.Response:
    """Returns the response, with an error status if every image failed."""
    if single:
        content = results[0].to_dict()
    else:
        content = {"results": [result.to_dict() for result in results]}
    statuses = {result.failure.status if result.failure else _OK for result in results}
    status = _OK if _OK in statuses else statuses.pop() if len(statuses) == 1 else BAD_REQUEST
    accepted = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    image_type = next((kind for kind in accepted if kind in ("image/jpeg", "image/png")), None)
    if image_type and len(results) == 1 and status == _OK:
        data = results[0].drawn(image_type.removeprefix("image/"))
        return fastapi.Response(data, media_type=image_type)
    if "multipart/mixed" not in accepted:
        return json_response(content, status)
    boundary = uuid.uuid4().hex
    parts = [("application/json", to_json(content).encode())]
    parts += [("image/jpeg", result.drawn("jpeg")) for result in results if result.failure is None]
    body = b"".join(
        b"--%s\r\nContent-Type: %s\r\n\r\n%s\r\n" % (boundary.encode(), kind.encode(), data)
        for kind, data in parts
    )
    return fastapi.Response(
        body + b"--%s--\r\n" % boundary.encode(),
        status,
        media_type=f"multipart/mixed; boundary={boundary}",
    )


def json_response(content: dict[str, Any], status: int = _OK) -> fastapi.Response:
    """Returns an object as a JSON response."""
    return fastapi.Response(to_json(content), status, media_type="application/json")
