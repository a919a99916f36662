"""Recognises URLs and removes their secrets."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote

from yolotf.files.paths import StrPath

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(?:://|::)")
_URL_AS_PATH = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/(?!/)")
"""A URL after pathlib has collapsed its slashes."""
_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]{0,30}"  # bounded: a text may be one long word
_CHAINED = rf"::(?={_SCHEME}(?:://|::))"
"""Between the URLs of a chain, as in `filecache::https://...`."""
_ANY_URL = re.compile(rf"({_SCHEME}://)((?:(?!{_CHAINED})[^\s'\"<>])*)")
"""A URL in a sentence, or chained by `::`."""
_ANY_URL_AS_PATH = re.compile(
    r"([A-Za-z][A-Za-z0-9+.-]{1,30}:/)((?!/)[^\s'\"<>]{0,2000}[@?#&=][^\s'\"<>]*)"
)
"""A URL with possible secrets in a sentence, after pathlib has collapsed its slashes."""


_KEY_AND_VALUE = re.compile(r"[=&;?#@]")
"""In a last path part: cameras take `/user=me&password=...`, servers `;session=...`."""


def redacted(text: str) -> str:
    """Reduces the URLs in a text to their schemes, hosts and last path parts.

    Credentials can be before the @, in the query, the fragment or the path, and anyone who reads a
    presigned URL in a log can open its object.
    """
    shown = _ANY_URL.sub(lambda match: match[1] + _shown(match[2]), text)
    return _ANY_URL_AS_PATH.sub(lambda match: match[1] + _shown(match[2]), shown)


def shown_url(url: str) -> str:
    """Like `redacted`, for a whole URL, whose password may contain spaces and quotes."""
    shown = []
    for link in re.split(_CHAINED, url):
        scheme, slashes, rest = link.partition("://")
        shown.append(scheme + slashes + _shown(rest) if slashes else redacted(link))
    return "::".join(shown)


def _shown(rest: str) -> str:
    """Returns what may be shown of a URL after `scheme://`."""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    path = re.split(r"[?#]", rest, maxsplit=1)[0][len(authority) :]
    folders, _, name = path.rpartition("/")
    if _KEY_AND_VALUE.search(unquote(name)):
        name = "..."
    separator = "/.../" if folders else "/" if path else ""
    host = authority.rpartition("@")[2]
    if "@" not in rest[len(authority) :]:
        return host + separator + name
    # A password may contain / ? #, so the host may start later.
    after_password = rest.rpartition("@")[2]
    last_part = re.split(r"[?#]", after_password)[0].rpartition("/")[2]
    return f".../{name}" if "/" in after_password and name and last_part == name else "..."


def url_of(weights: StrPath) -> str | None:
    """Returns the URL that `weights` is, even if pathlib has collapsed its slashes; or None."""
    text = os.fsdecode(weights)
    # Not Path.exists, which raises an error for a very long name.
    if isinstance(weights, str):
        return text if _URL.match(text) and not os.path.exists(text) else None  # noqa: PTH110
    mangled = _URL_AS_PATH.match(text)
    if mangled and not os.path.exists(text):  # noqa: PTH110
        return f"{mangled[1]}://{text[mangled.end() :]}"
    return None
