"""Files of another kind than expected are recognised by their bytes."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

import yolotf
from support import weights_files
from support.cfgs import conv, net
from support.messages import refused, said
from yolotf.darknet.cfg import parse_cfg
from yolotf.darknet.class_names import read_names
from yolotf.errors import CfgError, YolotfError
from yolotf.files import detect, magic
from yolotf.images.read import open_picture
from yolotf.weights import layout


def tar() -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("yolov4.weights"))
    return raw.getvalue()


KINDS = {
    "tar": (tar(), "binary"),
    "tflite": (b"\x1c\0\0\0TFL3" + bytes(64), "binary"),
    "safetensors": ((64).to_bytes(8, "little") + b'{"a":{}}', "binary"),
    "onnx": (b"\x08\x08\x12\x07pytorch\x1a\x051.9.0", "binary"),
    "onnx, other producer": (b"\x08\x0a\x12\x06yolotf\x1a\x050.2.0:", "binary"),
    "saved model": (b"\x08\x01\x12\x20\x0a\x0b\x22\x05serve", "binary"),
    "graph": (b"\x0a\x20\x0a\x05input\x12\x0bPlaceholder", "binary"),
    "utf-16": ("[net]\nwidth=416\n".encode("utf-16"), "text"),
    "404": (b"404: Not Found", "text"),
    "cfg": (b"[net]\nwidth=416\n", "text"),
    "cr only": (b"[net]\rwidth=416\r", "text"),
    "data": (b"classes = 2\nnames = obj.names\n", "text"),
}
"""Content, and what `detected` calls it."""


@pytest.mark.parametrize("kind", KINDS)
def test_other_kinds_of_file_are_detected_and_described(kind: str, tmp_path: Path) -> None:
    content, detected = KINDS[kind]
    path = tmp_path / "file.weights"
    path.write_bytes(content)
    contents = detect.Contents.of(path)
    assert contents.detected == detected
    assert contents.hint in contents.description
    said(contents.description)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"cfg", "cr only"}))
def test_readers_of_cfgs_names_and_images_name_the_kind(kind: str, tmp_path: Path) -> None:
    content, _ = KINDS[kind]
    path = tmp_path / "file"
    path.write_bytes(content)
    with refused(CfgError, code="cfg"):
        parse_cfg(path)
    with refused(YolotfError):
        read_names(path)
    for picture in (path, content):
        with refused(OSError):
            open_picture(picture)


def test_an_exported_onnx_file_is_named(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="needs onnx")
    network = parse_cfg(net(32) + conv(4))
    weights_files.write(tmp_path / "a.weights", np.zeros(layout.floats(network), np.float32))
    yolotf.convert(tmp_path / "a.weights", network, tmp_path / "a.onnx")
    contents = detect.Contents.of(tmp_path / "a.onnx")
    said(contents.hint)


@pytest.mark.parametrize("seed", range(20))
def test_random_weights_are_no_other_kind(seed: int, tmp_path: Path) -> None:
    numbers = np.random.default_rng(seed).standard_normal(20_000).astype(np.float32)
    path = tmp_path / "file.weights"
    weights_files.write(path, numbers)
    assert detect.Contents.of(path).detected is None


@pytest.mark.parametrize(
    "content",
    [
        "root:x:SECRET\n" * 9,
        "it's a SECRET\n",
        "it's \"a\" \\'SECRET\n",
        "<html><title>SECRET's</title></html>",
        "404: Not Found SECRET",
        "../SECRET/yolov4.weights",
    ],
)
def test_quotes_of_a_file_can_be_left_out(content: str, tmp_path: Path) -> None:
    path = tmp_path / "file.weights"
    path.write_text(content)
    description = detect.Contents.of(path).description
    assert "SECRET" in description
    shown = magic.without_quotes(f"{path}: {description}; pass a .weights file")
    assert "SECRET" not in shown
    said(shown)
