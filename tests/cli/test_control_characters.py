"""Control characters in names, paths and cfgs reach no terminal, log or page unescaped."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import yolotf
from support import helpers
from yolotf import diagnosis
from yolotf.cli import main

EVIL = "ev\x1b[31mil\x07\u202e\x9b2J"
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class Files:
    """A network, its weights, names and an image, all in files with control characters."""

    def __init__(self, folder: Path) -> None:
        network = yolotf.network("yolov4-tiny", classes=2, size=64)
        self.cfg, self.weights, self.cut, self.names, self.picture, self.text = (
            str(folder / f"{EVIL}{end}")
            for end in (".cfg", ".weights", ".cut.weights", ".names", ".png", ".jpg")
        )
        self.missing = str(folder / f"{EVIL}.missing")
        Path(self.cfg).write_text(network.to_cfg())
        helpers.write_weights(Path(self.weights), network, scale=0.05)
        Path(self.cut).write_bytes(Path(self.weights).read_bytes()[:-8])
        Path(self.names).write_text(f"a{EVIL}\nb{EVIL}\n")
        Path(self.text).write_text("text")
        pixels = np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(self.picture)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("evil"))


def failing(call: Callable[..., object], *arguments: object, **options: object) -> str:
    with pytest.raises((ValueError, OSError)) as caught:
        call(*arguments, **options)
    return str(caught.value)


@pytest.mark.slow
def test_errors_and_answers_of_the_library(files: Files) -> None:
    detector = yolotf.Detector(files.cfg, files.weights, class_names=files.names)
    model = yolotf.build_model(yolotf.parse_cfg(files.cfg))
    diagnosis_of_cut = yolotf.diagnose(files.cut, files.cfg)
    text = yolotf.network("yolov4-tiny", size=64).to_cfg()
    shown = [
        repr(detector),
        str(detector(files.picture)),
        failing(detector, files.text),
        failing(detector, files.missing),
        failing(detector.reload, files.cut),
        failing(yolotf.Detector, files.cfg, files.cut),
        failing(yolotf.Detector, files.cfg, files.weights, class_names=files.text),
        failing(yolotf.load_darknet_weights, model, files.cut),
        failing(yolotf.load_darknet_weights, model, files.cut, by_name=True),
        failing(yolotf.load_darknet_weights, model, files.missing),
        str(yolotf.load_darknet_weights(model, files.weights)),
        failing(yolotf.network, EVIL),
        failing(yolotf.parse_cfg, text.replace("activation=leaky", f"activation={EVIL}", 1)),
        failing(yolotf.parse_cfg, text.replace("filters=32", f"filters={EVIL}", 1)),
        failing(yolotf.parse_cfg, text.replace("[maxpool]", f"[max{EVIL}]", 1)),
        *yolotf.parse_cfg(text.replace("filters=32", f"junk{EVIL}\nfilters=32", 1)).warnings,
        diagnosis_of_cut.summary(),
        str(diagnosis_of_cut),
        diagnosis_of_cut.causes[0].message,
        diagnosis_of_cut.to_html(),
        str(diagnosis.inspect(files.cut)),
        yolotf.diagnose(files.missing, files.cfg).summary(),
    ]
    for text in shown:
        assert not RAW.search(text), text


@pytest.mark.parametrize(
    "command",
    [
        "check {cut} --cfg {cfg}",
        "check {missing} --cfg {cfg}",
        "check {weights} --cfg {missing}",
        "check {cut} --cfg {cfg} --html {html}",
        "inspect {cut}",
        "inspect {missing}",
        "detect {missing} {text} {picture} --cfg {cfg} --weights {weights} --names {names} "
        "--no-labels -o {out}",
        "detect {picture} --cfg {cfg} --weights {cut}",
        "convert {cut} --cfg {cfg} -o {out}.keras",
        "convert {missing} --cfg {cfg} -o {out}.keras",
        "classify {missing} --cfg {cfg} --weights {weights}",
        "eval --cfg {cfg} --weights {weights} --data {missing}",
    ],
)
def test_output_of_commands(
    command: str, files: Files, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    paths = {**vars(files), "html": str(tmp_path / "page.html"), "out": str(tmp_path / EVIL)}
    main([word.format(**paths) for word in command.split()])
    out, err = capfd.readouterr()
    assert out + err
    assert not RAW.search(out), out
    assert not RAW.search(err), err
    if (page := tmp_path / "page.html").exists():
        assert not RAW.search(page.read_text())
