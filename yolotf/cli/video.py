"""Writes a video of drawn frames atomically."""

from __future__ import annotations

import contextlib
import os
import struct
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from yolotf.files import atomic

if TYPE_CHECKING:
    from PIL import Image


class DrawnVideo:
    """An .mp4 file of drawn frames, as a context manager.

    The file appears at its path once it is complete: when the block ends, or when it is stopped by
    Ctrl-C, as cameras usually are. After any other exception there is no file.
    """

    def __init__(self, path: Path, rate: float, *, overwrite: bool = False) -> None:
        """Stores the arguments; the first frame decides the size and opens the file.

        Args:
            path: the final path.
            rate: frames per second.
            overwrite: whether to replace an existing file.
        """
        self._path = path
        self._rate = rate
        self._overwrite = overwrite
        self._publishing = contextlib.ExitStack()
        self._writer: Any = None

    def __enter__(self) -> DrawnVideo:
        return self

    def add(self, frame: Image.Image) -> None:
        """Appends a frame.

        Raises:
            OSError: the file cannot be written, or exists and `overwrite` is False.
        """
        if self._writer is None:
            self._open(frame.size)
        self._writer.write(np.ascontiguousarray(np.asarray(frame)[..., ::-1]))

    def _open(self, size: tuple[int, int]) -> None:
        """Opens a temporary file for frames of this (width, height)."""
        import cv2  # optional, and slow to import

        replacing = atomic.replacing_path(self._path, overwrite=self._overwrite)
        self._file = self._publishing.enter_context(replacing)
        codec = cv2.VideoWriter.fourcc(*"mp4v")
        self._writer = cv2.VideoWriter(str(self._file), codec, self._rate, size)
        if not self._writer.isOpened():
            raise OSError(f"{self._path}: OpenCV cannot write this video")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Moves the finished video to its path, or removes the unfinished one.

        Raises:
            OSError: the file is incomplete; OpenCV does not report a full disk itself.
        """
        if self._writer is not None:
            self._writer.release()
        is_stopped = kind is not None and issubclass(kind, GeneratorExit | KeyboardInterrupt)
        if self._writer is None or (error is not None and not is_stopped):
            self._publishing.__exit__(kind, error, traceback)
            return
        with self._publishing:
            if not _is_whole(self._file):
                raise OSError(
                    f"{self._path}: OpenCV wrote only a part of the video; is the disk full?"
                )


def _is_whole(path: Path) -> bool:
    """Whether the file consists of complete MP4 boxes and has the index (`moov`), written last."""
    position, box_kinds = 0, set()
    with path.open("rb") as file:
        size_bytes = file.seek(0, os.SEEK_END)
        while position < size_bytes:
            file.seek(position)
            header = file.read(16).ljust(16, b"\0")
            size, kind, long_size = struct.unpack(">I4sQ", header)
            size = long_size if size == 1 else size
            if size < 8:
                return False
            box_kinds.add(kind)
            position += size
    return position == size_bytes and b"moov" in box_kinds
