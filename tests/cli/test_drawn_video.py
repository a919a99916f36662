"""The video that `yolotf detect` draws is complete, or there is none."""

import struct
from pathlib import Path

import pytest
from PIL import Image

from support.messages import refused
from yolotf.cli.video import DrawnVideo

cv2 = pytest.importorskip("cv2")

FRAMES = [Image.new("RGB", (64, 48), colour) for colour in ("red", "green", "blue")]


def draw(path, error=None, **options):
    with DrawnVideo(path, 10.0, **options) as video:
        for frame in FRAMES:
            video.add(frame)
        if error is not None:
            raise error


def frame_count(path):
    capture = cv2.VideoCapture(str(path))
    count = 0
    while capture.read()[0]:
        count += 1
    capture.release()
    return count


@pytest.mark.parametrize("stop", [KeyboardInterrupt, GeneratorExit])
def test_stopping_keeps_what_was_drawn(tmp_path, stop):
    with pytest.raises(stop):
        draw(tmp_path / "a.mp4", stop())
    assert frame_count(tmp_path / "a.mp4") == len(FRAMES)


def test_the_end_of_the_block_is_the_end_of_the_video(tmp_path):
    draw(tmp_path / "a.mp4")
    assert frame_count(tmp_path / "a.mp4") == len(FRAMES)


def test_an_error_leaves_no_file(tmp_path):
    with pytest.raises(ZeroDivisionError):
        draw(tmp_path / "a.mp4", ZeroDivisionError())
    with DrawnVideo(tmp_path / "b.mp4", 10.0):
        pass  # without frames
    assert not list(tmp_path.iterdir())


def test_an_existing_file_is_replaced_on_request_only(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"mine")
    with refused(FileExistsError):
        draw(path)
    assert path.read_bytes() == b"mine"
    draw(path, overwrite=True)
    assert frame_count(path) == len(FRAMES)


class FullDisk:
    """A VideoWriter that reports no error and leaves the index out, as OpenCV's does."""

    fourcc = staticmethod(cv2.VideoWriter.fourcc)

    def __init__(self, path, *_):
        self.path = path

    def isOpened(self):
        return True

    def write(self, frame):
        pass

    def release(self):
        whole = struct.pack(">I4s", 16, b"ftyp") + bytes(8)
        cut = struct.pack(">I4s", 1000, b"mdat") + bytes(100)
        Path(self.path).write_bytes(whole + cut)


def test_a_video_that_is_cut_short_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(cv2, "VideoWriter", FullDisk)
    with refused(OSError):
        draw(tmp_path / "a.mp4")
    assert not list(tmp_path.iterdir())
