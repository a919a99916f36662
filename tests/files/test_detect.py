"""Files that are something else, told by their bytes."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from support import weights_files
from support.messages import refused
from yolotf.darknet.cfg import parse_cfg
from yolotf.darknet.class_names import read_names
from yolotf.errors import YolotfError
from yolotf.files import detect, magic
from yolotf.images.read import open_picture


def tar() -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("yolov4.weights"))
    return raw.getvalue()


KINDS = {
    "tar": (tar(), "binary", "a tar archive"),
    "tflite": (b"\x1c\0\0\0TFL3" + bytes(64), "binary", "TensorFlow Lite"),
    "safetensors": ((64).to_bytes(8, "little") + b'{"a":{}}', "binary", "safetensors"),
    "onnx": (b"\x08\x08\x12\x07pytorch\x1a\x051.9.0", "binary", "ONNX"),
    "saved model": (b"\x08\x01\x12\x20\x0a\x0b\x22\x05serve", "binary", "SavedModel"),
    "graph": (b"\x0a\x20\x0a\x05input\x12\x0bPlaceholder", "binary", "TensorFlow graph"),
    "utf-16": ("[net]\nwidth=416\n".encode("utf-16"), "text", "UTF-16"),
    "404": (b"404: Not Found", "text", "answer of a server"),
    "cfg": (b"[net]\nwidth=416\n", "text", "swapped"),
    "cr only": (b"[net]\rwidth=416\r", "text", "a Darknet cfg"),
    "data": (b"classes = 2\nnames = obj.names\n", "text", ".data file"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_other_files_are_named(kind: str, tmp_path: Path) -> None:
    content, detected, hint = KINDS[kind]
    path = tmp_path / "file.weights"
    path.write_bytes(content)
    found = detect.Contents.of(path)
    assert found.detected == detected
    assert hint in found.hint
    assert hint in found.description


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"cfg", "cr only"}))
def test_every_door_says_the_same_of_them(kind: str, tmp_path: Path) -> None:
    content, _, hint = KINDS[kind]
    path = tmp_path / "file"
    path.write_bytes(content)
    with refused(YolotfError) as caught:
        parse_cfg(path)
    said = hint.removeprefix("a ")
    assert said in str(caught.value)
    with pytest.raises(YolotfError) as caught:
        read_names(path)
    assert said in str(caught.value)
    for picture in (path, content):
        with refused(OSError) as error:
            open_picture(picture)
        assert said in str(error.value)


@pytest.mark.parametrize("seed", range(20))
def test_weights_are_none_of_them(seed: int, tmp_path: Path) -> None:
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
def test_what_is_quoted_can_be_left_out(content: str, tmp_path: Path) -> None:
    path = tmp_path / "file.weights"
    path.write_text(content)
    description = detect.Contents.of(path).description
    assert "SECRET" in description
    shown = magic.without_quotes(f"{path}: {description}; pass a .weights file")
    assert "SECRET" not in shown
    assert shown.startswith(f"{path}: a ")
    assert shown.endswith("; pass a .weights file")
