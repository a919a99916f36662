"""Top-1 and top-k of a classifier, counted by hand from its answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import yolotf
from support.cfgs import conv, net, normalized
from support.helpers import write_weights
from support.messages import refused, said
from yolotf import evaluation
from yolotf.cli.commands import main
from yolotf.darknet.cfg import parse_cfg

LABELS = ("n01", "n02", "n03", "n04", "n05", "n06", "n07")
NAMES = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu")
TEXT = net(16) + normalized(8, 3, stride=2) + conv(len(LABELS)) + "[avgpool]\n[softmax]\ngroups=1\n"
IMAGES = 23


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data file, a list, labels and images, each called after its class."""
    monkeypatch.chdir(tmp_path)
    write_weights(tmp_path / "a.weights", parse_cfg(TEXT), scale=4)
    (tmp_path / "a.cfg").write_text(TEXT)
    (tmp_path / "images").mkdir()
    random = np.random.default_rng(5)
    paths = []
    for number in range(IMAGES):
        label = LABELS[int(random.integers(len(LABELS)))]
        size = (int(random.integers(10, 40)), int(random.integers(10, 40)), 3)
        path = Path(f"images/{label}_{number}.png")
        Image.fromarray(random.integers(0, 256, size).astype(np.uint8)).save(path)
        paths.append(path)
    (tmp_path / "valid.list").write_text("".join(f"{path}\n" for path in paths))
    (tmp_path / "labels.list").write_text("".join(f"{label}\n" for label in LABELS))
    (tmp_path / "names.list").write_text("".join(f"{name}\n" for name in NAMES))
    (tmp_path / "a.data").write_text(
        f"classes={len(LABELS)}\nvalid = valid.list\nlabels = labels.list\nnames = names.list\n"
    )
    return tmp_path


def counted(paths: list[Path], k: int, **options: Any) -> float:
    """The share of images of which the right class is among the first `k` answers."""
    classifier = yolotf.Classifier(TEXT, "a.weights", **options)
    right = 0
    for path in paths:
        wanted = LABELS.index(path.name.split("_")[0])
        right += wanted in classifier(path, top=k).classes
    return right / len(paths)


def listed(folder: Path) -> list[Path]:
    return [Path(line) for line in (folder / "valid.list").read_text().split()]


@pytest.mark.parametrize("resize", ["crop", "letter_box", "stretch"])
@pytest.mark.parametrize("batch_size", [1, 8])
def test_top1_and_top_k_match_a_count_by_hand(resize, batch_size, folder):
    data = evaluation.read_labelled_images("a.data")
    done: list[tuple[str, int, int]] = []
    score = evaluation.evaluate_classifier(
        TEXT,
        "a.weights",
        data,
        resize=resize,
        batch_size=batch_size,
        progress=lambda *call: done.append(call),
    )
    paths = listed(folder)
    assert done == [
        ("classifying", min(count, IMAGES), IMAGES)
        for count in range(0, IMAGES + batch_size, batch_size)
    ]
    assert (score.images, score.k) == (IMAGES, 5)
    assert score.top1 == pytest.approx(counted(paths, 1, resize=resize))
    assert score.top_k == pytest.approx(counted(paths, 5, resize=resize))
    assert 0 < score.top1 <= score.top_k < 1
    assert score.about["resize"] == resize
    assert f"top-1  {100 * score.top1:6.2f} %" in str(score)
    assert json.loads(json.dumps(score.to_dict()))["top5"] == score.top_k


def test_top_comes_from_the_argument_before_the_data_file(folder):
    data = evaluation.read_labelled_images("a.data")
    score = evaluation.evaluate_classifier(TEXT, "a.weights", data, top=2)
    assert (score.k, score.top_k) == (2, pytest.approx(counted(listed(folder), 2)))
    (folder / "a.data").write_text((folder / "a.data").read_text() + "top=6\n")
    data = evaluation.read_labelled_images("a.data")
    score = evaluation.evaluate_classifier(TEXT, "a.weights", data)
    assert (score.k, score.top_k) == (6, pytest.approx(counted(listed(folder), 6)))
    with refused(ValueError):
        evaluation.evaluate_classifier(TEXT, "a.weights", data, top=0)


def test_first_label_in_the_path_counts_as_in_darknet(folder):
    (folder / "images/n03_n02.png").write_bytes((folder / listed(folder)[0]).read_bytes())
    (folder / "valid.list").write_text("images/n03_n02.png\n")
    data = evaluation.read_labelled_images("a.data")
    assert data.labels == ("n02",)


def test_folder_names_give_the_classes(folder):
    for path in listed(folder):
        name = NAMES[LABELS.index(path.name.split("_")[0])]
        (folder / "sorted" / name).mkdir(parents=True, exist_ok=True)
        path.rename(folder / "sorted" / name / path.name)
    data = evaluation.read_labelled_images("sorted")
    paths = sorted((folder / "sorted").rglob("*.png"))
    for names in (NAMES, tuple(reversed(NAMES))):
        score = evaluation.evaluate_classifier(TEXT, "a.weights", data, class_names=names, top=3)
        classifier = yolotf.Classifier(TEXT, "a.weights")
        right = [names.index(path.parent.name) in classifier(path, top=3).classes for path in paths]
        assert score.top_k == pytest.approx(np.mean(right))


def test_images_that_cannot_be_read_or_have_no_label_count_as_wrong(folder, capsys):
    (folder / "images/n04_broken.png").write_bytes(b"no image")
    (folder / "images/other.png").write_bytes((folder / listed(folder)[0]).read_bytes())
    with (folder / "valid.list").open("a") as file:
        file.write("images/n04_broken.png\nimages/other.png\nimages/n05_gone.png\n")
    data = evaluation.read_labelled_images("a.data")
    score = evaluation.evaluate_classifier(TEXT, "a.weights", data)
    right = counted(listed(folder)[:IMAGES], 1) * IMAGES
    assert score.images == IMAGES + 3
    assert score.top1 == pytest.approx(right / (IMAGES + 3))
    assert [Path(path).name for path, _ in score.unread] == ["n04_broken.png", "n05_gone.png"]
    assert [Path(path).name for path in score.unlabelled] == ["other.png"]
    assert main(["eval", "--data", "a.data", "--cfg", "a.cfg", "--weights", "a.weights"]) == 1
    printed = capsys.readouterr()
    assert f"top-5  {100 * score.top_k:6.2f} %" in printed.out
    said(printed.err)


def test_eval_prints_the_figures_as_json(folder, capfd):
    arguments = ["eval", "--data", "a.data", "--cfg", "a.cfg", "--weights", "a.weights"]
    assert main([*arguments, "--json", "--resize", "letter-box", "--top", "3"]) == 0
    printed = capfd.readouterr()
    result = json.loads(printed.out)
    assert result["top1"] == pytest.approx(counted(listed(folder), 1, resize="letter_box"))
    assert result["top3"] == pytest.approx(counted(listed(folder), 3, resize="letter_box"))
    said(printed.err)  # nothing of TensorFlow's


@pytest.mark.parametrize(
    "change",
    [
        ("labels = labels.list\nnames = names.list", ""),
        ("valid = valid.list", ""),
        ("labels = labels.list", "labels = names.list"),
        ("labels.list", "gone.list"),
    ],
    ids=["no labels", "no images", "other labels", "no such file"],
)
def test_what_a_data_file_lacks_is_named(change, folder, capsys):
    text = (folder / "a.data").read_text()
    (folder / "a.data").write_text(text.replace(*change))
    assert main(["eval", "--data", "a.data", "--cfg", "a.cfg", "--weights", "a.weights"]) == 2
    said(capsys.readouterr().err)


def test_label_count_other_than_the_networks_is_refused(folder):
    (folder / "labels.list").write_text("n01\nn02\n")
    data = evaluation.read_labelled_images("a.data")
    with refused(yolotf.YolotfError):
        evaluation.evaluate_classifier(TEXT, "a.weights", data)


@pytest.mark.parametrize(
    "option",
    [
        *(["--letter-box"], ["--no-letter-box"], ["--plot", "a.png"], ["--points", "11"]),
        *(["--match-iou", "0.75"], ["--score-threshold", "0.5"], ["--like", "hank-ai"]),
    ],
    ids=" ".join,
)
def test_eval_of_a_classifier_refuses_options_for_boxes(option, folder, capsys):
    given = ["eval", "--data", "a.data", "--cfg", "a.cfg", "--weights", "a.weights"]
    assert main([*given, *option]) == 2
    said(capsys.readouterr().err)


def test_onnxruntime_scores_the_same_as_tensorflow(folder, capfd):
    given = ["eval", "--data", "a.data", "--cfg", "a.cfg", "--weights", "a.weights", "--json"]
    results = []
    for engine in ("tensorflow", "onnxruntime"):
        assert main([*given, "--engine", engine]) == 0
        results.append(json.loads(capfd.readouterr().out))
    assert [result["engine"] for result in results] == ["tensorflow", "onnxruntime"]
    assert results[0]["top1"] == results[1]["top1"]


def test_evaluating_a_classifier_as_a_detector_is_refused(folder):
    with refused(yolotf.UnsupportedSectionError):
        yolotf.evaluate(TEXT, "a.weights", "a.data")
