"""Class names from files, lists and dictionaries; anything else is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from support.messages import refused
from yolotf.darknet.class_names import read_names
from yolotf.errors import YolotfError
from yolotf.evaluation import classification, data_set

PYYAML = "(?<=: not valid YAML: ).*(?=; line)"
"""What PyYAML says about text that is no YAML."""


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"a\nb\n\n", ("a", "b")),
        (b"a\r\nb b\r\n", ("a", "b b")),
        (b"a\rb", ("a", "b")),
        ("\ufeffcaf\u00e9\n".encode(), ("caf\u00e9",)),
    ],
)
def test_files_hold_a_name_a_line(content: bytes, names: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "obj.names"
    path.write_bytes(content)
    assert read_names(path) == names


@pytest.mark.parametrize(
    "content",
    [
        "cat\n\u82f9\u679c\n".encode("gbk"),
        "cat\ndog\n".encode("utf-16"),
        b"a\n\nb\n",
        b"classes=2\nnames = data/obj.names\n",
        "cat\ndog\n".encode("utf-16-le"),
        b"\0\0\0\0\2\0\0\0" + bytes(100),
        b"\xff\0\0\0\2\0\0\0" + bytes(100),
        b"",
        b"<!DOCTYPE html>\n<html></html>\n",
        b"404: Not Found",
        b"# mine\n[net]\nwidth=32\n",
        b'{"0": "cat"}',
        b"nc: 3\nnames: {0: cat, 2: dog}\n",
        b"nc: 3\nnames: {cat: 0}\n",
        b"path: .\nnames: [[cat], dog]\n",
        b"path: .\ntrain: a\n",
        b"names: [cat, dog\n",
        b"\x1f\x8b\x08\0",
        b"\x89PNG\r\n\x1a\n",
    ],
)
def test_file_that_is_no_list_of_names_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "obj.names"
    path.write_bytes(content)
    with refused(YolotfError, path=str(path), hide=PYYAML):
        read_names(path)


def test_dictionaries_are_read_by_their_numbers() -> None:
    assert read_names({1: "b", 0: "a"}) == ("a", "b")
    assert read_names({"0": "a"}) == ("a",)  # type: ignore[dict-item]
    with refused(YolotfError):
        read_names({0: "a", 2: "c"})


def test_lists_tuples_and_none_are_read() -> None:
    assert read_names(["a", "b"]) == ("a", "b")
    assert read_names(name for name in "ab") == ("a", "b")  # type: ignore[arg-type]
    assert read_names(None) == ()


@pytest.mark.parametrize(
    "names",
    [
        3,
        {"a", "b"},
        b"a",
        [1, 2],
        {0: "a", 1: None},
        {"a": 0},
        {"a": "b"},
    ],
)
def test_value_that_is_no_names_is_refused(names: object) -> None:
    with refused(TypeError):
        read_names(names)  # type: ignore[arg-type]


def test_names_are_not_read_from_urls() -> None:
    with refused(YolotfError):
        read_names("gs://b/y.names")


@pytest.mark.parametrize(
    "content",
    [
        "# my classes\nnames: [cat, 'no', '1']\n",
        "names:\n- cat\n- no\n- 1\n",
        "path: ../data\ntrain: images\nnames:\n  0: cat\n  1: no\n  2: 1\n",
        "train: a\nnames: {0: cat, 2: '1', 1: no}\nnc: 3\n",
        "nc: 3\nnames: ['cat', 'no', '1']\nroboflow:\n  version: 1\n",
    ],
)
@pytest.mark.parametrize("name", ["data.yaml", "custom.yml", "obj.names"])
def test_names_of_data_yamls_in_every_layout(name: str, content: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(content)
    assert read_names(path) == ("cat", "no", "1")


def test_data_file_leads_to_its_names(tmp_path: Path) -> None:
    (tmp_path / "obj.names").write_text("cat\ndog\n")
    path = tmp_path / "obj.data"
    path.write_text("classes = 2\ntrain = data/train.txt\nnames = data/obj.names\n")
    assert read_names(path) == ("cat", "dog")
    (tmp_path / "obj.names").write_text("classes = 2\nnames = obj.names\n")
    assert read_names(path) == ("classes = 2", "names = obj.names")  # not followed further


@pytest.mark.slow
def test_yaml_of_nested_brackets_is_refused_in_time(tmp_path: Path) -> None:
    path = tmp_path / "data.yaml"
    path.write_text("names: " + "[" * 50000)
    with refused(YolotfError):
        read_names(path)


@pytest.mark.parametrize("reads", ["names", "eval", "labels"])
@pytest.mark.parametrize(
    ("place", "allowed"),
    [
        ("elsewhere/secrets", False),
        ("elsewhere/secrets.conf", False),
        ("elsewhere/obj.names", True),
        ("elsewhere/Classes.TXT", True),
        ("data/secrets", True),
        ("data/below/secrets", True),
        ("work/secrets", True),
    ],
)
def test_data_file_reads_no_unrelated_file_of_another_folder(
    reads: str, place: str, allowed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("elsewhere", "data/below", "work"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    named = tmp_path / place
    named.write_text("dog\ncat\n")
    image = tmp_path / "data" / "dog.jpg"
    Image.new("RGB", (8, 8)).save(image)
    image.with_suffix(".txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "data" / "list.txt").write_text(f"{image}\n")
    options = {"classes": "2", "valid": "list.txt", "names": str(named)}
    if reads == "labels":
        options |= {"labels": str(named), "names": "obj.names"}
        (tmp_path / "data" / "obj.names").write_text("dog\ncat\n")
    data = tmp_path / "data" / "net.data"
    data.write_text("".join(f"{key} = {value}\n" for key, value in options.items()))

    def read() -> tuple[str, ...]:
        if reads == "names":
            return read_names(data)
        if reads == "labels":
            return tuple(classification.read_labelled_images(data).labels[0])
        return data_set.read_data_set(data).class_names

    if allowed:
        assert read()
        return
    with refused(YolotfError, path=str(named)) as caught:
        read()
    assert "dog" not in str(caught.value).replace(str(data), "")
