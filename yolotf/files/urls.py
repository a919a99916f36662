"""Recognises URLs and removes their secrets."""

from __future__ import annotations

import os
import re

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(?:://|::)")
_URL_AS_PATH = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/(?!/)")
"""A URL after pathlib has collapsed its slashes."""
_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]{0,30}"  # bounded: a text may be one long word
_CHAINED = rf"::(?={_SCHEME}(?:://|::))"
"""Between the URLs of a chain, as in `filecache::https://...`."""
_ANY_URL = re.compile(rf"({_SCHEME}://)((?:(?!{_CHAINED})[^\s'\"<>])*)")
"""A URL in a sentence, or chained by `::`."""
_ANY_URL_AS_PATH = re.compile(
    r"([A-Za-z][A-Za-z0-9+.-]{1,30}:/)((?!/)[^\s'\"<>]{0,2000}[@?#][^\s'\"<>]*)"
)
"""A URL with possible secrets in a sentence, after pathlib has collapsed its slashes."""


def redacted(text: str) -> str:
    """Reduces the URLs in a text to their schemes, hosts and last path parts.

    Credentials can be before the @, in the query, the fragment or the path, and anyone who reads a
    presigned URL in a log can open its object.
    """
    shown = _ANY_URL.sub(lambda found: found[1] + _shown(found[2]), text)
    return _ANY_URL_AS_PATH.sub(lambda found: found[1] + _shown(found[2]), shown)


def shown_url(url: str) -> str:
    """As `redacted`, for a whole URL, whose password may contain spaces and quotes."""
    links = []
    for link in re.split(_CHAINED, url):
        scheme, slashes, rest = link.partition("://")
        links.append(scheme + slashes + _shown(rest) if slashes else redacted(link))
    return "::".join(links)


def _shown(rest: str) -> str:
    """Returns what may be shown of a URL after `scheme://`."""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    path = re.split(r"[?#]", rest, maxsplit=1)[0][len(authority) :]
    middle, _, last = path.rpartition("/")
    between = "/.../" if middle else "/" if path else ""
    host = authority.rpartition("@")[2]
    if "@" not in rest[len(authority) :]:
        return host + between + last
    # A password may contain / ? #, so the host may start later.
    after = rest.rpartition("@")[2]
    same = "/" in after and last and re.split(r"[?#]", after)[0].rpartition("/")[2] == last
    return f".../{last}" if same else "..."


def url_of(weights: str | os.PathLike[str]) -> str | None:
    """Returns a path as a URL if it is one; None for other paths."""
    text = os.fsdecode(weights)
    # Not Path.exists, which raises an error for a very long name.
    if isinstance(weights, str):
        return text if _URL.match(text) and not os.path.exists(text) else None  # noqa: PTH110
    mangled = _URL_AS_PATH.match(text)
    if mangled and not os.path.exists(text):  # noqa: PTH110
        return f"{mangled[1]}://{text[mangled.end() :]}"
    return None
