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
_CHUNK_BYTES = 1 << 18
"""How much of a form is parsed before other requests get a turn."""


class Refusal(Exception):
    """An invalid request; `status` is the HTTP status code."""

    def __init__(self, message: str, status: int = _BAD_REQUEST) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class ImageRequest:
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

    async def read(self, request: fastapi.Request) -> ImageRequest:
        """Returns the encoded images of a request.

        Raises:
            Refusal: no images, a limit exceeded, or too many uploads at the moment.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        body = await self._body(request)
        if kind == "multipart/form-data":
            return ImageRequest(await self._of_form(request, body), single=False)
        if kind == "application/json":
            return await asyncio.to_thread(_of_json, body, self._settings.max_images)
        if not body:
            raise Refusal("the body is empty; send an image, a form with files, or JSON")
        return ImageRequest([body], single=True)

    async def _body(self, request: fastapi.Request) -> bytes:
        limit = self._settings.max_image_bytes
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and (len(declared) > 18 or int(declared) > limit):
            raise _too_large(limit)
        # Slow uploads occupy request slots; this limit keeps some free for detection.
        if self._reading >= self._settings.uploads:
            raise Refusal(
                f"{plural(self._reading, 'upload')} in progress, the limit; try again later",
                _BUSY,
            )
        self._reading += 1
        try:
            seconds = self._settings.body_timeout_s
            return await asyncio.wait_for(_limited_body(request, limit), seconds)
        except asyncio.TimeoutError:
            raise Refusal(f"the body did not arrive within {seconds:g} seconds", _TIMEOUT) from None
        finally:
            self._reading -= 1

    async def _of_form(self, request: fastapi.Request, body: bytes) -> list[bytes]:
        max_images = self._settings.max_images
        # Allows one file too many, since the parser's own error would lack our status code.
        parser = _Form(
            request.headers,
            _chunks(body),
            max_files=max_images + 1,
            max_fields=max_images + _OTHER_VALUES,
        )
        form = None
        # ValueError: the charset of the content type is any of Python's codecs.
        with contextlib.suppress(MultiPartException, KeyError, AssertionError, ValueError):
            form = await parser.parse()
        files = [part for _, part in parser.items if isinstance(part, UploadFile)]
        if len(files) > max_images:
            raise _too_many(max_images)
        if form is None:
            raise Refusal("the body is not valid multipart/form-data (RFC 7578)")
        if not files:
            raise Refusal("the form contains no file")
        return [await file.read() for file in files]


class _Form(MultiPartParser):
    """Keeps files in memory, where the body is anyway: perhaps no folder is writable."""

    spool_max_size = max_file_size = sys.maxsize  # names in current and older Starlette


async def _limited_body(request: fastapi.Request, limit: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        if len(body) + len(chunk) > limit:
            raise _too_large(limit)
        body += chunk
    return bytes(body)


async def _chunks(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), _CHUNK_BYTES):
        yield body[start : start + _CHUNK_BYTES]
        await asyncio.sleep(0)


def _of_json(body: bytes, max_images: int) -> ImageRequest:
    # Base64 contains none of these characters. A body with more of them does not consist of images,
    # and parsing it could take many times its size in memory, or exceed the recursion limit.
    if sum(map(body.count, (b",", b"[", b"{"))) > max_images + _OTHER_VALUES:
        raise _too_many(max_images)
    try:
        content = json.loads(body)
    except RecursionError:
        raise Refusal("the body is not JSON: nested too deeply") from None
    except ValueError as error:  # including encoding errors
        raise Refusal(f"the body is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise Refusal(_WRONG_JSON)
    single = "image" in content
    images = [content["image"]] if single else content.get("images")
    if not isinstance(images, list) or not images:
        raise Refusal(_WRONG_JSON)
    if len(images) > max_images:
        raise _too_many(max_images)
    try:
        return ImageRequest([base64.b64decode(image, validate=True) for image in images], single)
    except (binascii.Error, TypeError, ValueError) as error:
        raise Refusal(f"{_WRONG_JSON}: {error}") from None


def _too_large(limit: int) -> Refusal:
    return Refusal(f"the body is larger than {limit} bytes", _TOO_LARGE)


def _too_many(max_images: int) -> Refusal:
    return Refusal(f"the request has more than {plural(max_images, 'image')}", _TOO_LARGE)
