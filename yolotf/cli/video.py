"""Writes a video of drawn frames atomically."""

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
    """An .mp4 that appears under its name once complete; imports OpenCV."""

    def __init__(
        self, path: Path, rate: float, size: tuple[int, int], *, overwrite: bool = False
    ) -> None:
        """Opens a temporary file for the video.

        Args:
            path: the final path.
            rate: frames per second.
            size: (width, height) of each frame.
            overwrite: whether to replace an existing file.

        Raises:
            OSError: the file cannot be written, or exists and `overwrite` is False.
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
        """Appends a frame."""
        self._writer.write(np.ascontiguousarray(np.asarray(frame)[..., ::-1]))

    def publish(self) -> None:
        """Moves the finished video to its path.

        Raises:
            OSError: the file is incomplete; OpenCV does not report a full disk itself.
        """
        self._writer.release()
        if not _is_whole(self._file):
            self._discard(OSError(f"{self._path}: OpenCV wrote a part of it; is the disk full?"))
        self._publishing.close()

    def discard(self) -> None:
        """Removes the unfinished video; called while an exception is handled."""
        self._writer.release()
        self._publishing.__exit__(*sys.exc_info())

    def _discard(self, reason: OSError) -> None:
        try:
            raise reason
        except OSError:
            self.discard()
            raise


def _is_whole(path: Path) -> bool:
    """Whether the file consists of complete MP4 boxes and has the index (`moov`), written last."""
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
