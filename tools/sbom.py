#!/usr/bin/env python3
"""Lists the components of a wheel of yolotf, in CycloneDX 1.5 (ECMA-424): an SBOM.

    python tools/sbom.py WHEEL [MINOR ...]

writes WHEEL with .cdx.json in place of .whl: the wheel with its SHA-256; the packages that it and
its extras require, with the allowed versions; what is compiled into its libraries (pybind11, the
headers of each MINOR of TensorFlow); and the libraries that were added to it. The same wheel gives
the same bytes.
"""

from __future__ import annotations

import email
import email.message
import hashlib
import json
import sys
import uuid
import zipfile
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

Component = dict[str, Any]


def write(wheel: Path, minors: Iterable[str] = ()) -> Path:
    """Writes the document beside the wheel; returns its path.

    Args:
        wheel: the wheel.
        minors: minor versions of TensorFlow that the op was compiled for.
    """
    path = wheel.with_suffix(".cdx.json")
    path.write_text(json.dumps(document(wheel, minors), indent=2) + "\n", encoding="utf-8")
    return path


def document(wheel: Path, minors: Iterable[str] = ()) -> dict[str, Any]:
    """Returns the document; see `write`."""
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    with zipfile.ZipFile(wheel) as packed:
        names = packed.namelist()
        (about,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        headers = email.message_from_bytes(packed.read(about))
    subject = _package(headers["Name"], headers["Version"])
    subject["hashes"] = [{"alg": "SHA-256", "content": digest}]
    subject["licenses"] = [{"license": {"id": headers["License-Expression"]}}]
    parts = [*_required(headers), *_compiled(minors), *_bundled(names)]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, digest)}",
        "version": 1,
        "metadata": {"component": subject},
        "components": parts,
        "dependencies": [
            {"ref": subject["bom-ref"], "dependsOn": [part["bom-ref"] for part in parts]}
        ],
    }


def _package(name: str, version: str | None = None, kind: str = "library") -> Component:
    address = f"pkg:pypi/{name.lower().replace('_', '-')}" + (f"@{version}" if version else "")
    known = {"version": version} if version else {}
    return {"type": kind, "bom-ref": address, "name": name, **known, "purl": address}


def _required(headers: email.message.Message) -> Iterator[Component]:
    seen = set()
    for text in headers.get_all("Requires-Dist", []):
        wanted = Requirement(text)
        component = _package(wanted.name)
        if component["bom-ref"] in seen:
            continue
        seen.add(component["bom-ref"])
        is_extra = wanted.marker is not None and "extra" in str(wanted.marker)
        component["scope"] = "optional" if is_extra else "required"
        allowed = {"name": "yolotf:versions", "value": str(wanted.specifier)}
        yield {**component, "properties": [allowed]}


def _compiled(minors: Iterable[str]) -> Iterator[Component]:
    """Returns the headers that were compiled into the libraries."""
    yield _package("pybind11", metadata.version("pybind11"))
    for minor in minors:
        yield _package("tensorflow", minor)


def _bundled(names: Iterable[str]) -> Iterator[Component]:
    """Returns the libraries that auditwheel added, in `yolotf.libs`."""
    for name in sorted(names):
        folder, _, file = name.rpartition("/")
        if folder.endswith(".libs") and file:
            yield {"type": "file", "bom-ref": f"file:{name}", "name": name}


if __name__ == "__main__":
    print(write(Path(sys.argv[1]), sys.argv[2:]))
