"""Builds the HTTP response of a request from its results, in the format that `Accept` asks for."""

import io
import uuid
from collections.abc import Sequence
from typing import Any

import fastapi

from yolotf.files.json import to_json
from yolotf.images.detections import Detections
from yolotf.images.read import open_picture
from yolotf.ray.pictures import BAD_REQUEST, Failure

_OK = 200


class Result:
    """The detections of one image, or why there are none."""

    def __init__(self, data: bytes, found: Detections | Failure, max_pixels: int) -> None:
        self._data = data
        self._max_pixels = max_pixels
        self.found = found

    @property
    def failure(self) -> Failure | None:
        """Why the image has no detections; None if it has."""
        return self.found if isinstance(self.found, Failure) else None

    def to_dict(self) -> dict[str, Any]:
        """Returns the image's part of the JSON response."""
        if isinstance(self.found, Failure):
            return {"error": self.found.reason}
        return self.found.to_dict()

    def drawn(self, format: str) -> bytes:
        """Returns the encoded image with its boxes; decodes it again, since pixels are not kept."""
        assert isinstance(self.found, Detections)
        picture = open_picture(self._data, max_pixels=self._max_pixels).convert("RGB")
        memory = io.BytesIO()
        self.found.draw(picture).save(memory, format)
        return memory.getvalue()


def answer(accept: str, results: Sequence[Result], *, single: bool) -> fastapi.Response:
    """Returns the response, with an error status if every image failed."""
    content = results[0].to_dict() if single else {"results": [one.to_dict() for one in results]}
    failures = {one.failure.status if one.failure else _OK for one in results}
    status = _OK if _OK in failures else failures.pop() if len(failures) == 1 else BAD_REQUEST
    kinds = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    picture = next((kind for kind in kinds if kind in ("image/jpeg", "image/png")), None)
    if picture and len(results) == 1 and status == _OK:
        data = results[0].drawn(picture.removeprefix("image/"))
        return fastapi.Response(data, media_type=picture)
    if "multipart/mixed" not in kinds:
        return json_answer(content, status)
    boundary = uuid.uuid4().hex
    parts = [("application/json", to_json(content).encode())]
    parts += [("image/jpeg", one.drawn("jpeg")) for one in results if one.failure is None]
    body = b"".join(
        b"--%s\r\nContent-Type: %s\r\n\r\n%s\r\n" % (boundary.encode(), kind.encode(), data)
        for kind, data in parts
    )
    return fastapi.Response(
        body + b"--%s--\r\n" % boundary.encode(),
        status,
        media_type=f"multipart/mixed; boundary={boundary}",
    )


def json_answer(content: dict[str, Any], status: int = _OK) -> fastapi.Response:
    """Returns an object as a JSON response."""
    return fastapi.Response(to_json(content), status, media_type="application/json")
