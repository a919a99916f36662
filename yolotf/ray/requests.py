"""Extracts the encoded images from a request's body, within limits for every kind of body.

Nothing the client claims is trusted: bytes are counted as they arrive, whatever `Content-Length`
says, and the whole body has a time limit.
"""

import asyncio
import base64
import binascii
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

import fastapi
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from yolotf.ray.settings import Settings
from yolotf.text import plural

_BAD_REQUEST, _TIMEOUT, _TOO_LARGE, _BUSY = 400, 408, 413, 503

_WRONG_JSON = 'JSON must be {"image": BASE64} or {"images": [BASE64, ...]}'
_OTHER_VALUES = 32
"""Values that a JSON body may hold besides images."""
_PIECE = 1 << 18
"""Bytes of a form that are parsed before other requests get a turn."""


class Refusal(Exception):
    """An invalid request; `status` is the HTTP status code."""

    def __init__(self, message: str, status: int = _BAD_REQUEST) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Asked:
    """The content of a request.

    Attributes:
        images: the encoded images.
        single: whether it asks about one image, whose response is not a list.
    """

    images: list[bytes]
    single: bool


class Reader:
    """Reads a replica's requests."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._reading = 0

    async def read(self, request: fastapi.Request) -> Asked:
        """Returns the encoded images of a request.

        Raises:
            Refusal: no images, a limit exceeded, or too many uploads at the moment.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        body = await self._body(request)
        if kind == "multipart/form-data":
            return Asked(await self._of_form(request, body), single=False)
        if kind == "application/json":
            return await asyncio.to_thread(_of_json, body, self._settings.max_images)
        if not body:
            raise Refusal("the body is empty; send an image, a form with files, or JSON")
        return Asked([body], single=True)

    async def _body(self, request: fastapi.Request) -> bytes:
        limit = self._settings.max_image_bytes
        said = request.headers.get("content-length", "")
        if said.isdecimal() and (len(said) > 18 or int(said) > limit):
            raise _too_large(limit)
        # Slow uploads occupy request slots; this limit keeps some free for detection.
        if self._reading >= self._settings.uploads:
            raise Refusal(
                f"{plural(self._reading, 'body', 'bodies')} of requests are being read already; "
                "try it again",
                _BUSY,
            )
        self._reading += 1
        try:
            seconds = self._settings.body_timeout_s
            return await asyncio.wait_for(_counted(request, limit), seconds)
        except asyncio.TimeoutError:
            raise Refusal(f"the body did not come within {seconds:g} seconds", _TIMEOUT) from None
        finally:
            self._reading -= 1

    async def _of_form(self, request: fastapi.Request, body: bytes) -> list[bytes]:
        most = self._settings.max_images
        # One more than allowed: the parser's own error would lack our status code.
        parser = _Form(
            request.headers, _pieces(body), max_files=most + 1, max_fields=most + _OTHER_VALUES
        )
        form = None
        with contextlib.suppress(MultiPartException, KeyError, AssertionError):
            form = await parser.parse()
        files = [part for _, part in parser.items if isinstance(part, UploadFile)]
        if len(files) > most:
            raise _too_many(most)
        if form is None:
            raise Refusal("the form is not multipart/form-data as RFC 7578 has it")
        if not files:
            raise Refusal("the form holds no file")
        return [await file.read() for file in files]


class _Form(MultiPartParser):
    """Keeps files in memory, as the body is: no folder may be writable."""

    spool_max_size = max_file_size = sys.maxsize  # names in current and older Starlette


async def _counted(request: fastapi.Request, limit: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        if len(body) + len(chunk) > limit:
            raise _too_large(limit)
        body += chunk
    return bytes(body)


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), _PIECE):
        yield body[start : start + _PIECE]
        await asyncio.sleep(0)


def _of_json(body: bytes, most: int) -> Asked:
    # Base64 contains none of these characters. A body with more of them does not consist of images,
    # and parsing it could take many times its size in memory, or exceed the recursion limit.
    if sum(map(body.count, (b",", b"[", b"{"))) > most + _OTHER_VALUES:
        raise _too_many(most)
    try:
        content = json.loads(body)
    except RecursionError:
        raise Refusal("not JSON: too deep") from None
    except ValueError as error:  # including encoding errors
        raise Refusal(f"not JSON: {error}") from None
    if not isinstance(content, dict):
        raise Refusal(_WRONG_JSON)
    single = "image" in content
    images = [content["image"]] if single else content.get("images")
    if not isinstance(images, list) or not images:
        raise Refusal(_WRONG_JSON)
    if len(images) > most:
        raise _too_many(most)
    try:
        return Asked([base64.b64decode(image, validate=True) for image in images], single)
    except (binascii.Error, TypeError, ValueError) as error:
        raise Refusal(f"{_WRONG_JSON}: {error}") from None


def _too_large(limit: int) -> Refusal:
    return Refusal(f"the body is larger than {limit} bytes", _TOO_LARGE)


def _too_many(most: int) -> Refusal:
    return Refusal(f"more than {plural(most, 'image')} in a request", _TOO_LARGE)
