"""Cfgs from strangers: limits, `CfgError` alone, and no time or memory beyond the text's size."""

from __future__ import annotations

import json
import os
import random
import re
from pathlib import Path

import numpy as np
import pytest

from support import helpers, messages, weights_files
from yolotf.darknet import cfg
from yolotf.darknet.limits import Limits
from yolotf.diagnosis import diagnose
from yolotf.errors import CfgError, YolotfError
from yolotf.weights import layout

pytestmark = pytest.mark.slow

HEAD = "[net]\nwidth=32\nheight=32\nchannels=3\n"
CONV = "[conv]\nfilters=6\nsize=1\nstride=1\npad=1\nactivation=linear\n"
BIG = 2147483647


def error_of(text: str, limits: Limits = cfg.Limits()) -> CfgError:  # noqa: B008 - frozen
    with messages.refused(CfgError, code="cfg", source="some.cfg") as caught:
        cfg.parse_text(text, source="some.cfg", limits=limits)
    return caught.value


@pytest.mark.parametrize(
    "text",
    [
        HEAD + CONV + f"[yolo]\nmask={BIG}\nclasses=1\nnum=1\nanchors=1,2\n",
        HEAD + CONV + "[yolo]\nnum=300000000\n",
        HEAD + CONV + "[region]\nnum=500000000\n",
        HEAD + CONV + "[detection]\nnum=500000000\n",
        HEAD + CONV + "".join(f"key{i}={i}\n" for i in range(8000)),
        HEAD + CONV + "[dropout]\n" * 6000,
        HEAD + "junk\n" * 100_001,
        HEAD + "# " + "x" * 20_000 + "\n",
        f"[net]\nwidth={'0' * 5000}32\n",
        HEAD + CONV + f"[dropout]\nprobability={'1' * 500}\n",
        HEAD + CONV + "[route]\nlayers=-1,-1\n" * 40,
        HEAD + CONV + f"[upsample]\nstride={BIG}\n" * 2,
        HEAD + CONV + "[upsample]\nstride=-100\n",
        HEAD + f"[conv]\nfilters=1000000000\nsize=999999999\npad=1\n{CONV}",
        HEAD + f"[conv]\nfilters={BIG}\nsize={BIG}\npad=1\n" * 50,
        HEAD + f"[crnn]\nsize=1\noutput={BIG}\nhidden={BIG}\n",
        HEAD + f"[connected]\noutput={BIG}\n" * 2,
        HEAD + CONV + f"[route]\nlayers={','.join(['0'] * 3000)}\n" * 20,
    ],
    ids=[
        "mask",
        "num of yolo",
        "num of region",
        "num of detection",
        "options",
        "sections",
        "lines",
        "line length",
        "number length",
        "float",
        "floats of routes",
        "upsampled",
        "negative stride",
        "kernel",
        "fifty kernels",
        "crnn",
        "connected",
        "references",
    ],
)
def test_excess_is_refused(text):
    error_of(text)


def test_the_whole_text_has_a_limit(tmp_path):
    with messages.refused(CfgError):
        cfg.parse_cfg("[net]\n".ljust(2 * 1024 * 1024 + 1))
    path = tmp_path / "sparse.cfg"
    with path.open("wb") as file:
        file.write(HEAD.encode())
    os.truncate(path, 10 * 1024**3)
    with messages.refused(CfgError):
        cfg.parse_cfg(path)


def test_limits_can_be_lifted_singly_or_all():
    keys = HEAD + CONV + "".join(f"key{i}={i}\n" for i in range(30_000))
    assert len(cfg.parse_cfg(keys, limits=cfg.UNLIMITED).layers) == 1
    assert len(cfg.parse_cfg(keys, limits=Limits(options=50_000)).layers) == 1
    zeros = HEAD.replace("width=", "width=" + "0" * 5000)
    assert cfg.parse_cfg(zeros, limits=cfg.UNLIMITED).input_shape == (32, 32, 3)
    dropouts = HEAD + CONV + "[dropout]\n" * 6000
    network = cfg.parse_cfg(dropouts, limits=cfg.UNLIMITED)
    # Networks made from it have no limits either.
    assert len(network.resized(64).layers) == 6001
    # A sum beyond 64 bits is refused whatever the limits.
    error_of(HEAD + CONV + "[route]\nlayers=-1,-1\n" * 40, cfg.UNLIMITED)


def test_warnings_are_counted_when_there_are_many():
    network = cfg.parse_text(HEAD + "junk\n" * 1000, source="some.cfg")
    assert len(network.warnings) == 101
    messages.said(network.warnings[-1])


@pytest.mark.parametrize(
    "text",
    [
        "[net\x1b[31m]\n",
        HEAD + "[\x1b[2J]\n",
        HEAD + "[conv]\nactivation=\x1b[31mred\n",
        HEAD + "[conv]\nfilters=\x1b]0;title\x07\n",
        HEAD + CONV + "[shortcut]\nfrom=-1\nweights_type=\x9b31m\n",
        HEAD + CONV + "[route]\nlayers=\u202e1\n",
    ],
)
def test_messages_hold_no_control_characters(text):
    error = error_of(text)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", str(error))
    network = cfg.parse_text(
        HEAD + "ju\x1b[31mnk\n" + CONV + "[yolo]\nclasses=1\nnms_kind=\x1b[2J\n", source="\x1b.cfg"
    )
    assert network.warnings
    assert not any("\x1b" in text for text in (*network.warnings, str(network), repr(network)))


@pytest.mark.parametrize(
    "content",
    [
        b"\x1f\x8b\x08\0" * 9,
        b"PK\x03\x04" * 9,
        weights_files.content(np.ones(22)),
        HEAD.encode("utf-16"),
        HEAD.encode("utf-16-be"),
        HEAD.replace("\n", "\r").encode(),
        b"<!DOCTYPE html><html>\n",
        b"version https://git-lfs.github.com/spec/v1\n",
    ],
    ids=["gzip", "zip", "weights", "utf-16", "utf-16-be", "cr", "html", "lfs"],
)
def test_another_kind_of_file_is_recognised_by_its_bytes(tmp_path, content):
    path = tmp_path / "some.cfg"
    path.write_bytes(content)
    with messages.refused(CfgError, code="cfg", source="some.cfg"):
        cfg.parse_cfg(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_devices_fifos_and_folders_are_refused(tmp_path):
    fifo = tmp_path / "fifo.cfg"
    os.mkfifo(fifo)
    with messages.refused(CfgError):
        cfg.parse_cfg(fifo)
    with messages.refused(CfgError):
        cfg.parse_cfg("/dev/zero")
    with pytest.raises(IsADirectoryError):
        cfg.parse_cfg(tmp_path)


# One line deleted, doubled or changed.

SMALL = (
    HEAD + "letter_box=1\n" + CONV + "[maxpool]\nsize=2\nstride=2\n[conv]\nfilters=8\ngroups=2\n"
    "batch_normalize=1\nsize=3\npad=1\nactivation=leaky\n[reorg3d]\nstride=2\n[upsample]\nstride=2\n"
    "[route]\nlayers=-1,2\n[conv]\nfilters=40\n[shortcut]\nfrom=-2\nweights_type=per_channel\n"
    "[avgpool]\n[scale_channels]\nfrom=-2\n[conv]\nfilters=14\nsize=1\n"
    "[yolo]\nmask=0,1\nanchors=10,14,23,27,37,58\nclasses=2\nnum=3\ndontload=1\n",
    HEAD + "[local]\nfilters=4\nsize=3\nstride=2\n[lrn]\nsize=3\n[crop]\ncrop_height=8\n"
    "crop_width=8\n[connected]\noutput=24\nbatch_normalize=1\n[dropout]\nprobability=.5\n"
    "[detection]\nside=2\nnum=1\ncoords=4\nclasses=1\n",
    HEAD + "[conv_lstm]\noutput=6\nsize=3\npad=1\npeephole=1\n[crnn]\noutput=4\nhidden=8\nsize=1\n"
    "[gru]\noutput=5\n[batchnorm]\n[implicit]\nfilters=5\n[softmax]\ngroups=1\n[cost]\n",
)
VALUES = (
    *("", "0", "-1", "1", "2", "-100", "2147483647", "-2147483648", "9" * 5000, "1e999", "nan"),
    *("0.5", ",", "-1,-1", "0,0,0", "x", "\x1b[31m", "mish", "none", "-2,999"),
)


def places_by_kind(lines: list[str]) -> list[list[int]]:
    """The numbers of the lines, by section and key: a stock cfg has the same few lines often."""
    places: dict[tuple[str, str], list[int]] = {}
    section = ""
    for number, line in enumerate(lines):
        text = line.strip()
        if text.startswith("["):
            section = text
        if text and text[0] not in "#;":
            places.setdefault((section, text.partition("=")[0]), []).append(number)
    return list(places.values())


def mutated(text: str, dice: random.Random) -> str:
    lines = text.split("\n")
    kinds = places_by_kind(lines)
    place = dice.choice(dice.choice(kinds))
    match dice.randrange(4):
        case 0:
            del lines[place]
        case 1:
            lines.insert(place, lines[place])
        case 2:
            other = dice.choice(dice.choice(kinds))
            lines[place], lines[other] = lines[other], lines[place]
        case _:
            key = lines[place].partition("=")[0]
            lines[place] = f"{key}={dice.choice(VALUES)}"
    return "\n".join(lines)


def survives(text: str) -> None:
    """Does everything a cfg goes through before its file is opened."""
    try:
        network = cfg.parse_text(text, source="mutated.cfg")
        assert layout.size_bytes(network) >= 20
        str(network)
        network.resized(64)
        network.with_classes(3)
    except YolotfError as error:
        str(error).encode()


def diagnosed(text: str, path: Path) -> None:
    """Does what `check` does with a cfg and a file."""
    try:
        network = cfg.parse_text(text, source="mutated.cfg")
        result = diagnose(path, network)
        assert result.exit_code in (0, 1)
        json.dumps(result.to_dict(), allow_nan=False)
        str(result)
        result.summary().encode()
    except YolotfError as error:
        str(error).encode()


def beginning_with_noise(path: Path, size_bytes: int, dice: random.Random) -> Path:
    """A file of that size: a header, numbers as a network might have them, and a hole."""
    header = weights_files.header(version=(0, dice.choice((1, 2)), 5), seen_bytes=8)
    weights_files.write(path, [dice.gauss(0.3, 0.3) for _ in range(9000)], header=header)
    os.truncate(path, max(20, size_bytes))
    return path


@pytest.mark.parametrize("text", SMALL)
def test_mutated_cfg_gives_a_diagnosis_or_a_sentence(text, tmp_path):
    dice = random.Random(21)
    size = layout.size_bytes(cfg.parse_text(text, source="small.cfg"))
    for _ in range(40):
        other = size + 4 * dice.choice((0, 0, 1, -1, dice.randint(-3000, 3000)))
        diagnosed(mutated(text, dice), beginning_with_noise(tmp_path / "f.weights", other, dice))


@pytest.mark.parametrize("text", SMALL)
def test_mutated_cfg_gives_a_network_or_a_sentence(text):
    dice = random.Random(20)
    cfg.parse_text(text, source="small.cfg")
    for _ in range(600):
        survives(mutated(text, dice))


def stock_cfgs() -> list[Path]:
    return sorted(helpers.SHARED.glob("cfg/*.cfg"))


@pytest.mark.parametrize("path", helpers.cfg_params(stock_cfgs))
def test_mutated_stock_cfg_gives_a_network_or_a_sentence(path):
    text = path.read_bytes().decode("utf-8", "replace")
    dice = random.Random(path.name)
    for _ in range(20):
        survives(mutated(text, dice))


LARGE = 200_000_000
"""Bytes of a file that is diagnosed only once: a diagnosis reads it several times."""


@pytest.mark.parametrize("path", helpers.cfg_params(stock_cfgs))
def test_mutated_stock_cfg_gives_a_diagnosis_or_a_sentence(path, tmp_path):
    text = path.read_bytes().decode("utf-8", "replace")
    dice = random.Random(path.name)
    try:
        size = layout.size_bytes(cfg.parse_text(text, source=path.name))
    except YolotfError:
        size = 1_000_000
    file = beginning_with_noise(tmp_path / "f.weights", size, dice)
    for _ in range(4 if size < LARGE else 1):
        diagnosed(mutated(text, dice), file)
