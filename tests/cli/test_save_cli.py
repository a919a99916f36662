"""`yolotf save`: a `.weights` file of a saved Keras model, or of the first sections of another."""

import struct
from pathlib import Path

import keras
import numpy as np
import pytest

import yolotf
from support.cfgs import conv, net, normalized, yolo
from support.messages import said
from yolotf.cli import commands as cli

CFG = net(16) + normalized(4, 3, stride=2) + conv(18) + yolo(1, "1,1,2,2,3,3")
BACKBONE_FLOATS = 4 * 4 + 4 * 3 * 9


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A `.weights` file of 7,000 images and, in `m.keras`, the model that it was loaded into."""
    monkeypatch.chdir(tmp_path)
    Path("net.cfg").write_text(CFG)
    random = np.random.default_rng(0)
    floats = random.uniform(0.1, 1, BACKBONE_FLOATS + 18 + 18 * 4).astype("<f4")
    content = struct.pack("<3iQ", 0, 2, 5, 7000) + floats.tobytes()
    Path("net.weights").write_bytes(content)
    yolotf.build_model("net.cfg", weights="net.weights").save("m.keras")
    return content


def save(*arguments):
    return cli.main(["save", *arguments, "--cfg", "net.cfg", "-o", "out.weights"])


@pytest.mark.parametrize("file", ["m.keras", "net.weights"])
def test_the_whole_network_is_saved(trained, file, capsys):
    assert save(file, "--seen", "7000") == 0
    assert Path("out.weights").read_bytes() == trained
    assert capsys.readouterr().out == f"{file} -> out.weights: {len(trained):,} bytes\n"
    assert cli.main(["check", "out.weights", "--cfg", "net.cfg"]) == 0


@pytest.mark.parametrize(("file", "seen"), [("m.keras", 0), ("net.weights", 7000)])
def test_the_first_sections_are_saved(trained, file, seen):
    assert save(file, "--upto", "1") == 0
    saved = Path("out.weights").read_bytes()
    assert saved[:20] == struct.pack("<3iQ", 0, 2, 5, seen)
    assert saved[20:] == trained[20 : 20 + 4 * BACKBONE_FLOATS]
    model = yolotf.build_model("net.cfg", classes=5)
    Path("out.weights").rename("net.conv.1")
    assert yolotf.load_darknet_weights(model, "net.conv.1").loaded == ("conv_0",)


@pytest.mark.filterwarnings("default")
def test_the_epsilon_of_a_model_is_folded(trained, capsys):
    model = yolotf.build_model("net.cfg", weights="net.weights")
    model.get_layer("conv_0_bn").epsilon = 0.001
    model.save("m.keras")
    assert save("m.keras") == 0
    said(capsys.readouterr().err)
    assert save("m.keras", "--fold-epsilon", "--overwrite") == 0
    assert not capsys.readouterr().err
    saved = np.frombuffer(Path("out.weights").read_bytes()[20:], "<f4")
    before = np.frombuffer(trained[20:], "<f4")
    np.testing.assert_allclose(saved[12:16] - before[12:16], 0.001 - 1e-5, rtol=1e-3)
    np.testing.assert_array_equal(np.delete(saved, range(12, 16)), np.delete(before, range(12, 16)))


@pytest.mark.parametrize(
    "arguments",
    [
        ["m.keras", "--upto", "0"],
        ["net.weights", "--upto", "4"],
        ["m.keras", "--seen", "-1"],
        ["m.keras", "--classes", "2"],
        ["net.weights", "--classes", "2"],
        ["none.keras"],
        ["bad.keras"],
        ["lambda.keras"],
    ],
    ids=" ".join,
)
def test_nothing_is_written_if_it_fails(trained, arguments, capsys):
    Path("bad.keras").write_bytes(b"bad")
    layers = [keras.layers.Input((4, 4, 3)), keras.layers.Lambda(lambda x: x + 1)]
    keras.Sequential(layers).save("lambda.keras")
    assert save(*arguments) in (1, 2)
    assert not Path("out.weights").exists()
    said(capsys.readouterr().err, hide=r"Keras \d\S* cannot load it: .*")
