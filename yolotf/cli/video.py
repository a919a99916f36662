"""Drawings of a video's frames, as a video that appears whole."""

from __future__ import annotations

import contextlib
import os
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from yolotf.files import atomic

if TYPE_CHECKING:
    from PIL import Image


class DrawnVideo:
    """An .mp4 that gets its name when it is complete; OpenCV is imported for it."""

    def __init__(
        self, path: Path, rate: float, size: tuple[int, int], *, overwrite: bool = False
    ) -> None:
        """Opens it.

        Args:
            path: where it will be.
            rate: frames a second.
            size: (width, height) of each.
            overwrite: whether a file that is there is replaced.

        Raises:
            OSError: it cannot be written, or is not to be replaced.
        """
        import cv2  # optional, and slow to import

        self._path = path
        self._publishing = contextlib.ExitStack()
        replacing = atomic.replacing_path(path, overwrite=overwrite)
        self._file = self._publishing.enter_context(replacing)
        codec = cv2.VideoWriter.fourcc(*"mp4v")
        self._writer = cv2.VideoWriter(str(self._file), codec, rate, size)
        if not self._writer.isOpened():
            self._discard(OSError(f"{path}: OpenCV cannot write this video"))

    def add(self, frame: Image.Image) -> None:
        """The next frame."""
        self._writer.write(np.ascontiguousarray(np.asarray(frame)[..., ::-1]))

    def publish(self) -> None:
        """Gives it its name.

        Raises:
            OSError: OpenCV, which says nothing of a full disk, has not written all of it.
        """
        self._writer.release()
        if not _is_whole(self._file):
            self._discard(OSError(f"{self._path}: OpenCV wrote a part of it; is the disk full?"))
        self._publishing.close()

    def discard(self) -> None:
        """Leaves what was there before; called while an exception is handled."""
        self._writer.release()
        self._publishing.__exit__(*sys.exc_info())

    def _discard(self, reason: OSError) -> None:
        try:
            raise reason
        except OSError:
            self.discard()
            raise


def _is_whole(path: Path) -> bool:
    """Whether a file is MP4's boxes from end to end, with the index (`moov`) that comes last."""
    position, kinds = 0, set()
    with path.open("rb") as file:
        size_bytes = file.seek(0, os.SEEK_END)
        while position < size_bytes:
            file.seek(position)
            header = file.read(16).ljust(16, b"\0")
            size, kind, long_size = struct.unpack(">I4sQ", header)
            size = long_size if size == 1 else size
            if size < 8:
                return False
            kinds.add(kind)
            position += size
    return position == size_bytes and b"moov" in kinds
