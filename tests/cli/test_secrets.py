"""Every argument of every command is given URLs with secrets, a device, a FIFO and a secret file.

The arguments are read from the parsers, so that a new one is tried without a change here.
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
import os
from pathlib import Path

import pytest
from PIL import Image

from support import helpers
from support.cfgs import conv, net, section, yolo
from yolotf import Detector, parse_cfg
from yolotf.cli import commands, messages
from yolotf.errors import YolotfError
from yolotf.files import output_target, sources

NETWORK = net(32) + conv(24) + yolo(3)
FILES = {"cfg": "net.cfg", "weights": "net.weights"}
NAMED_BY_USERS = ("cfg", "data", "file", "files", "names", "weights")
"""Arguments that name files whose content an answer may quote: class names, or a bad line."""
SHADOW = "root:$6$salt$hash:19000:0:99999:7:::\n" * 3  # as many lines as classes
SECRETS = ("hunter", "tok3n", "s1gned")
URLS = (
    "https://me:hunter@host.invalid/a/b.x?tok3n=s1gned",
    "s3://me:hunter@bucket/b.x?X-Amz-Signature=s1gned",
    "https:/me:hunter@host.invalid/b.x#tok3n",
)
RUNS = {
    "check": {"file": "net.weights", "cfg": "net.cfg"},
    "classify": {"inputs": "a.png", **FILES},
    "convert": {"files": "net.weights", "cfg": "net.cfg", "output": "net.onnx"},
    "detect": {"inputs": "a.png", "json": None, **FILES},
    "eval": {"data": "net.data", **FILES},
    "export": {"weights": "net.weights", "cfg": "net.cfg", "output": "served"},
    "inspect": {"file": "net.weights", "json": None},
    "save": {"file": "net.weights", "cfg": "net.cfg", "output": "saved.weights"},
}
"""A run of each command that takes files: its arguments by their names in argparse."""


def takes_text(action: argparse.Action) -> bool:
    return action.type in (None, str) and action.nargs != 0 and not action.choices


def parser_of(command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    importlib.import_module(f"yolotf.cli.{commands.COMMANDS[command][0]}").add_arguments(parser)
    return parser


QUICK = ("check", "inspect")
ARGUMENTS = [
    pytest.param(command, action.dest, marks=() if command in QUICK else pytest.mark.slow)
    for command in RUNS
    for action in parser_of(command)._actions
    if takes_text(action)
]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    helpers.write_detector(NETWORK)
    Path("net.data").write_text("classes=3\nvalid=list.txt\nnames=net.names\n")
    Path("list.txt").write_text("a.png\n")
    Path("a.txt").write_text("0 .5 .5 .5 .5\n")
    Image.new("RGB", (40, 30)).save("a.png")
    return tmp_path


def arguments_of(command: str, argument: str, value: str) -> list[str]:
    """The command's run with another value for one argument."""
    given = {**RUNS[command], argument: value}
    if argument == "coco":
        del given["data"]
    arguments = [command]
    for action in parser_of(command)._actions:
        if action.dest in given:
            text = given[action.dest]
            flag = max(action.option_strings, key=len, default=None)
            arguments += [part for part in (flag, text) if part is not None]
    return arguments


def test_every_command_that_takes_files_is_tried():
    reads_none = {"build-op", "demo", "doctor"}
    assert set(RUNS) == set(commands.COMMANDS) - reads_none
    tried = {parameters.values for parameters in ARGUMENTS}
    assert {("detect", "names"), ("eval", "coco"), ("check", "html")} <= tried


@pytest.mark.parametrize(("command", "argument"), ARGUMENTS)
def test_an_argument_shows_no_secret(command, argument, capsys):
    before = set(Path().iterdir())
    for url in URLS:
        try:
            commands.main(arguments_of(command, argument, url))
        except SystemExit as stopped:  # wrong usage, which argparse says
            assert stopped.code == 2  # noqa: PT017
            capsys.readouterr()
            continue
        printed = "".join(capsys.readouterr())
        assert not [secret for secret in SECRETS if secret in printed], printed
        assert "Traceback" not in printed
    new = {path.name for path in set(Path().iterdir()) - before}
    assert not [name for name in new if name.startswith(("http", "s3"))]


@pytest.mark.usefixtures("in_time")
@pytest.mark.parametrize(("command", "argument"), ARGUMENTS)
def test_an_argument_takes_no_device_and_quotes_no_secret(command, argument, capsys):
    os.mkfifo("fifo")
    Path("shadow").write_text(SHADOW)
    for name in ("./fifo", "/dev/zero", "./shadow"):
        try:
            commands.main(arguments_of(command, argument, name))
        except SystemExit as stopped:  # wrong usage, which argparse says
            assert stopped.code == 2  # noqa: PT017
            capsys.readouterr()
            continue
        printed = "".join(capsys.readouterr())
        assert "Traceback" not in printed
        if argument not in NAMED_BY_USERS:
            assert "salt" not in printed, printed
    assert Path("shadow").read_text() == SHADOW
    assert Path("fifo").is_fifo()


COCO = {
    "images": [{"id": 1, "file_name": "URL", "width": 40, "height": 30}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9]}],
    "categories": [{"id": 1, "name": "cat"}],
}
WITH_URLS = {
    "list": {"list.txt": "a.png\nURL\n"},
    "valid": {"net.data": "valid=URL\nnames=net.names\n"},
    "names": {"net.data": "valid=list.txt\nnames=URL\n"},
    "difficult": {"net.data": "valid=list.txt\nnames=net.names\ndifficult=URL\n"},
    "line": {"net.data": "URL\n"},
    "two names": {"net.data": "names=URL\nnames=net.names\nvalid=list.txt\n"},
    "val": {"net.yaml": "val: 'URL'\nnames: [a, b, c]\n"},
    "path": {"net.yaml": "path: 'URL'\nval: .\nnames: [a, b, c]\n"},
    "COCO": {"coco.json": json.dumps(COCO)},
    "class": {"net.names": "URL\n\nkite\n"},
    "tree": {
        "net.cfg": net(32)
        + conv(8)
        + section("region", anchors="1,2", classes=3, coords=4, num=1, softmax=1, tree="URL")
    },
}
"""Files in which a URL stands, by what names it."""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*tree=:UserWarning")
@pytest.mark.parametrize("place", WITH_URLS)
@pytest.mark.parametrize("url", [*URLS, "rtsp://host/user=me&password=hunter&x=tok3n"])
def test_a_url_in_a_file_shows_no_secret(place, url, capsys, monkeypatch):
    for name, text in WITH_URLS[place].items():
        quoted = json.dumps(url)[1:-1] if name.endswith("json") else url
        Path(name).write_text(text.replace("URL", quoted))
    files = ["--cfg", "net.cfg", "--weights", "net.weights"]
    data = ["--data", "net.yaml" if Path("net.yaml").exists() else "net.data"]
    if place == "COCO":
        data = ["--coco", "coco.json", "--names", "net.names"]
    coco = ["--coco-json", "found.json", "--overwrite"]
    runs = [
        ["eval", *data, *files],
        ["eval", *data, *files, "--json"],
        ["detect", "a.png", *files, "--names", "net.data", "--json"],
        ["detect", "-", *files, "--json", *coco],
        ["inspect", "net.weights", "--cfg", "net.cfg", "--json"],
    ]
    if place == "COCO":
        runs.append(["detect", "a.png", *files, "--json", *coco, "--coco-like", "coco.json"])
    for arguments in runs:
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{url}\n{url}.jpg\na.png\n"))
        assert commands.main(arguments) in (0, 1, 2)
        printed = "".join(capsys.readouterr())
        results = [path.read_text() for path in Path().glob("found*.json")]
        shown = "\n".join([printed, *results])
        assert not [secret for secret in SECRETS if secret in shown], shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cannot read https:/me:hunter@host/a/b.x: no", "cannot read https:/host/.../b.x: no"),
        ("https:/host/b.x?tok3n", "https:/host/b.x"),
        ("a.cfg:12: b", "a.cfg:12: b"),
        ("C:/pictures/a@2x.png", "C:/pictures/a@2x.png"),
        ("HTTPS://me:hunter@host/a", "HTTPS://host/a"),
    ],
)
def test_urls_in_a_sentence_are_shown_without_secrets(text, shown):
    assert messages.shown(text) == shown


@pytest.mark.parametrize("letter", [" ", "'", '"', "<", "\t", "%40", "::b", "@"])
def test_passwords_of_any_letter_are_hidden(letter):
    assert sources.shown_url(f"http://me:hunter{letter}s1gned@host/a/b") == "http://host/.../b"


def test_a_long_text_is_shown_in_part_and_at_once():
    for text in ("a" * 1_000_000, "a:/" * 300_000, "://" * 300_000, "x::" * 300_000):
        assert len(messages.shown(text)) < 300


def test_python_shows_no_secret_either():
    url = URLS[0]
    calls = [
        lambda: parse_cfg(url),
        lambda: Detector("net.cfg", "net.weights", class_names=url),
        lambda: Detector("net.cfg", "net.weights")(url),
        lambda: output_target.checked_target(url),
    ]
    for call in calls:
        with pytest.raises((YolotfError, OSError)) as caught:
            call()
        error = caught.value
        shown = f"{error} {error!r} {vars(error)} {error.__cause__!r} {error.__context__!r}"
        assert "host.invalid/.../b.x" in shown
        assert not [secret for secret in SECRETS if secret in shown], shown
