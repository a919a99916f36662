"""Class names from files, lists and dictionaries; what is none is named with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from yolotf.errors import YolotfError
from yolotf.weights.names import read_names


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"a\nb\n\n", ("a", "b")),
        (b"a\r\nb b\r\n", ("a", "b b")),
        (b"a\rb", ("a", "b")),
        ("\ufeffcaf\u00e9\n".encode(), ("caf\u00e9",)),
        (b"", ()),
    ],
)
def test_files_hold_a_name_a_line(content: bytes, names: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "obj.names"
    path.write_bytes(content)
    assert read_names(path) == names


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("cat\n\u82f9\u679c\n".encode("gbk"), "is no UTF-8, as in text in GBK"),
        ("cat\ndog\n".encode("utf-16"), "text in UTF-16; save it as UTF-8"),
        (b"a\n\nb\n", "a blank line among 3 lines; line 2"),
        (b"classes=2\nnames = data/obj.names\n", "pass data/obj.names"),
        (b"\0\0\0\0\2\0\0\0" + bytes(100), "no list of class names: binary"),
        (b"\x1f\x8b\x08\0", "no list of class names: a gzip file"),
        (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    ],
)
def test_what_is_no_list_of_names_is_named(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "obj.names"
    path.write_bytes(content)
    with pytest.raises(YolotfError) as caught:
        read_names(path)
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert caught.value.path == str(path)


def test_dictionaries_are_read_by_their_numbers() -> None:
    assert read_names({1: "b", 0: "a"}) == ("a", "b")
    assert read_names({"0": "a"}) == ("a",)  # type: ignore[dict-item]
    with pytest.raises(YolotfError, match="none for class 1"):
        read_names({0: "a", 2: "c"})


def test_lists_and_nothing() -> None:
    assert read_names(["a", "b"]) == ("a", "b")
    assert read_names(None) == ()
