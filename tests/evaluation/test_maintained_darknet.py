"""Detections and counts equal those of hank-ai's Darknet itself.

The figures in data/hank_ai_detections.json are its own (version 5.1 and 104 commits, f684e1d7 of
2026-06-27, its default CPU build), for the official yolov4-tiny.weights and twelve pieces of two
photographs: the boxes of its library's `predict()` (darknet_06_images_to_json) and of `detector
test`, and the tables of `detector map`, for which labels are what yolov4-tiny finds above 0.1.
AlexeyAB's figures are those of the same set.
"""

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import yolotf
from support import helpers
from support.cfgs import conv, net, section
from support.messages import said
from yolotf import evaluation
from yolotf.cli.commands import main
from yolotf.images.detections import Detections

pytestmark = pytest.mark.slow

FACTS = json.loads((Path(__file__).parents[1] / "data/hank_ai_detections.json").read_text())
HANK_AI = {"map": 14.60, "counts": (34, 13, 45), "iou": 68.60}
ALEXEY_AB = {"map": 15.00, "counts": (43, 3, 36), "iou": 92.01}
PAIRS, MEAN_DIFFERENCE, LARGEST_DIFFERENCE = 45, 0.0274, 0.1458
"""Detections of the twelve pieces that both `test` and `predict()` find, and how their scores
differ."""


def pieces(photograph):
    width, height = photograph.size
    return {
        "whole": (0, 0, width, height),
        "left": (0, 0, 2 * width // 3, height),
        "right": (width // 3, 0, width, height),
        "top": (0, 0, width, 2 * height // 3),
        "bottom": (0, height // 3, width, height),
        "middle": (width // 6, height // 6, 5 * width // 6, 5 * height // 6),
    }


@pytest.fixture(scope="module")
def data_set(official_tiny, tmp_path_factory):
    """Images in JPEGImages/ and their labels beside them, the only place where hank-ai looks."""
    folder = tmp_path_factory.mktemp("maintained")
    images = folder / "JPEGImages"
    images.mkdir()
    detector = yolotf.Detector(official_tiny.cfg, official_tiny.weights, score_threshold=0.1)
    for name in ("bus", "zidane"):
        with Image.open(getattr(official_tiny, name)) as photograph:
            for piece, box in pieces(photograph).items():
                picture = photograph.crop(box)
                picture.save(images / f"{name}-{piece}.png")
                detections = detector(picture)
                lines = [
                    detections[[row]].to_yolo(picture.size[::-1]) for row in range(len(detections))
                ]
                (images / f"{name}-{piece}.txt").write_text("".join(lines))
    write_list(folder, sorted(images.glob("*.png")), official_tiny)
    return folder


def write_list(folder, pictures, official):
    (folder / "valid.txt").write_text("".join(f"{picture}\n" for picture in pictures))
    text = f"classes=80\nvalid={folder / 'valid.txt'}\nnames={official.names}\n"
    (folder / "obj.data").write_text(text)


def assert_counted(result, facts):
    assert 100 * result.mean_ap == pytest.approx(facts["map"], abs=0.005)
    assert (result.tp, result.fp, result.fn) == facts["counts"]
    assert 100 * result.average_iou == pytest.approx(facts["iou"], abs=0.005)


def boxed(official, folder):
    """The cfg with letter_box=1, which that fork's `map` does not apply."""
    text = official.cfg.read_text().replace("[net]", "[net]\nletter_box=1")
    (folder / "boxed.cfg").write_text(text)
    return folder / "boxed.cfg"


def test_map_matches_hank_ai(data_set, official_tiny):
    data = str(data_set / "obj.data")
    for cfg in (official_tiny.cfg, boxed(official_tiny, data_set)):
        result = evaluation.evaluate(cfg, official_tiny.weights, data, like="hank-ai")
        assert_counted(result, HANK_AI)
    assert_counted(evaluation.evaluate(official_tiny.cfg, official_tiny.weights, data), ALEXEY_AB)


@pytest.mark.parametrize("run", FACTS["map"], ids=lambda run: str(run["options"]))
def test_every_class_of_map_matches_hank_ai(run, data_set, official_tiny):
    """Its table has four decimals of a per cent; a class without a row has zeros there."""
    data = str(data_set / "obj.data")
    result = evaluation.evaluate(
        official_tiny.cfg, official_tiny.weights, data, like="hank-ai", **run["options"]
    )
    for counts in result.classes:
        ap, tp, fp, fn, f1, overlap = run["classes"].get(str(counts.class_id), [0.0] * 6)
        assert 100 * counts.ap == pytest.approx(ap, abs=6e-5), counts.name
        assert (counts.tp, counts.fp, counts.fn) == (tp, fp, fn), counts.name
        assert 100 * (counts.to_dict()["f1"] or 0) == pytest.approx(f1, abs=6e-5), counts.name
        assert 100 * counts.average_iou == pytest.approx(overlap, abs=0.01), counts.name
    assert [result.tp, result.fp, result.fn] == run["counts"]
    assert result.detections == run["detections"]
    assert 100 * result.mean_ap == pytest.approx(run["map"], abs=0.005)
    assert 100 * result.average_iou == pytest.approx(run["average_iou"], abs=0.01)


def test_counts_of_hank_ai_come_from_its_unstable_sort(data_set, official_tiny, monkeypatch):
    """With its pixels and AlexeyAB's stable sort the APs are the same and the counts are not."""
    from yolotf.evaluation import run

    class Stable(run.EvaluationDetector):
        def __init__(self, *arguments, like, **options):
            super().__init__(*arguments, like="alexeyab", **options)

    data = str(data_set / "obj.data")
    options = {"like": "hank-ai"}
    unstable = evaluation.evaluate(official_tiny.cfg, official_tiny.weights, data, **options)
    monkeypatch.setattr(run, "EvaluationDetector", Stable)
    stable = evaluation.evaluate(official_tiny.cfg, official_tiny.weights, data, **options)
    assert [counts.ap for counts in stable.classes] == pytest.approx(
        [counts.ap for counts in unstable.classes], abs=1e-12
    )
    assert (stable.tp, stable.fp, stable.fn) == (43, 4, 36)
    assert (unstable.tp, unstable.fp, unstable.fn) == HANK_AI["counts"]


def test_map_like_hank_ai_takes_images_of_any_ending(data_set, official_tiny, tmp_path):
    """Labels are beside the picture, whatever its name ends in; here its content is a PNG."""
    endings = itertools.cycle([".webp", ".JPeG", ".jfif"])
    for file in (data_set / "JPEGImages").iterdir():
        name = file.name if file.suffix == ".txt" else f"{file.stem}{next(endings)}"
        (tmp_path / name).write_bytes(file.read_bytes())
    write_list(tmp_path, sorted(tmp_path.glob("*.[wJj]*")), official_tiny)
    data = str(tmp_path / "obj.data")
    result = evaluation.evaluate(official_tiny.cfg, official_tiny.weights, data, like="hank-ai")
    assert_counted(result, HANK_AI)


def test_eval_like_hank_ai_prints_its_figures(data_set, official_tiny, capsys):
    command = ["eval", "--data", str(data_set / "obj.data"), "--like", "hank-ai", "-thresh", "25"]
    command += ["--cfg", str(boxed(official_tiny, data_set))]
    command += ["--weights", str(official_tiny.weights)]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "TP = 34, FP = 13, FN = 45, average IoU = 68.60 %" in printed
    assert "precision = 0.72" in printed
    assert "or 14.60 %" in printed
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["letter_box"] is False


def test_an_image_listed_twice_is_noted_as_refused_by_hank_ai(data_set, official_tiny, tmp_path):
    pictures = sorted((data_set / "JPEGImages").glob("*.png"))
    write_list(tmp_path, [*pictures, pictures[0]], official_tiny)
    data = evaluation.read_data_set(str(tmp_path / "obj.data"), like="hank-ai")
    for note in data.notes:
        said(note)


def test_what_hank_ai_refuses_in_a_list_is_noted(tmp_path):
    """Its `map` stops at an image without labels beside it, and at a link to a listed image."""
    for folder in ("JPEGImages", "labels"):
        (tmp_path / folder).mkdir()
    for name in "abc":
        Image.new("RGB", (32, 32)).save(tmp_path / f"JPEGImages/{name}.png")
    (tmp_path / "JPEGImages/d.png").symlink_to("a.png")
    for place in ("JPEGImages/a.txt", "JPEGImages/d.txt", "labels/b.txt"):
        (tmp_path / place).write_text("0 0.5 0.5 0.2 0.2\n")
    paths = sorted((tmp_path / "JPEGImages").glob("*.png"))
    (tmp_path / "valid.txt").write_text("".join(f"{path}\n" for path in paths))
    (tmp_path / "obj.data").write_text("classes=1\nvalid=valid.txt\n")
    first, second = evaluation.read_data_set(tmp_path / "obj.data", like="hank-ai").notes
    assert "a.png 2 times; every time counts; hank-ai's Darknet refuses the list" in first
    assert "2 images without labels beside them, the first" in second
    assert second.endswith("b.png; hank-ai's Darknet refuses the list")
    assert evaluation.read_data_set(tmp_path / "obj.data").notes == ()


# Its library: Darknet::predict() of darknet.cpp, and its tools, which call it.


def cut_and_rounded(x, y, width, height, picture_width, picture_height):
    """A relative box as predict() answers it: cut (darknet.cpp:54), then rounded (:1472)."""
    if x - width / 2 < 0 or x + width / 2 > 1:
        left, right = max(0.0, x - width / 2), min(1.0, x + width / 2)
        x, width = (left + right) / 2, right - left
    if y - height / 2 < 0 or y + height / 2 > 1:
        top, bottom = max(0.0, y - height / 2), min(1.0, y + height / 2)
        y, height = (top + bottom) / 2, bottom - top
    w, h = round(width * picture_width), round(height * picture_height)
    return round(x * picture_width - w / 2), round(y * picture_height - h / 2), w, h


def like_predict(cfg, official):
    """A detector as predict() sets it up: OpenCV's resizing, plain suppression, any cfg."""
    options = {"resize": "opencv", "letter_box": False, "nms_kind": "default"}
    return yolotf.Detector(cfg, official.weights, **options)


def of_class_by_score(rows):
    return sorted(rows, key=lambda row: (row[0], -row[1]))


def by_class_and_score(detections):
    rows = zip(
        detections.classes.tolist(),
        detections.scores.tolist(),
        detections.xyxy.tolist(),
        strict=True,
    )
    return of_class_by_score(rows)


def test_detections_match_hank_ais_library(data_set, official_tiny):
    """The scores of predict() to 5e-5, and its boxes to the pixel it rounds them to."""
    detector = like_predict(boxed(official_tiny, data_set), official_tiny)
    cut = 0
    for path in sorted((data_set / "JPEGImages").glob("*.png")):
        with Image.open(path) as picture:
            width, height = picture.size
        detections = detector(path)
        ours = by_class_and_score(detections.clip((height, width)))
        theirs = of_class_by_score(FACTS["predict"][path.name])
        assert [row[0] for row in ours] == [row[0] for row in theirs], path.name
        scores = [row[1] for row in ours]
        np.testing.assert_allclose(scores, [row[1] for row in theirs], atol=5e-5)
        for (_, _, (left, top, right, bottom)), (_, _, *rectangle) in zip(
            ours, theirs, strict=True
        ):
            np.testing.assert_allclose(
                (left, top, right - left, bottom - top), rectangle, atol=1.01
            )
        for left, top, right, bottom in detections.xyxy.tolist():
            inside = left >= 0 and top >= 0 and right <= width and bottom <= height
            relative = (
                *((left + right) / 2 / width, (top + bottom) / 2 / height),
                *((right - left) / width, (bottom - top) / height),
            )
            rounded = cut_and_rounded(*relative, width, height)
            distances = [np.abs(np.subtract(rounded, row[2:])).max() for row in theirs]
            assert min(distances) <= 1  # a half may round to either side
            cut += not inside
    assert cut > 5


def test_resizing_is_cv2s(data_set, official_tiny):
    """What predict() runs is cv2.resize with its default; scores are the same to 2e-3."""
    cv2 = pytest.importorskip("cv2")
    plain = yolotf.Detector(official_tiny.cfg, official_tiny.weights, nms_kind="default")
    detector = like_predict(official_tiny.cfg, official_tiny)
    for path in sorted((data_set / "JPEGImages").glob("*.png")):
        picture = np.asarray(Image.open(path).convert("RGB"))
        detections, wanted = detector(picture), plain(cv2.resize(picture, (416, 416)))
        assert detections.classes.tolist() == wanted.classes.tolist()
        # OpenCV's code for other processors differs by one level of 255 here and there.
        np.testing.assert_allclose(detections.scores, wanted.scores, atol=2e-3)


def test_detections_match_hank_ais_detector_test(data_set, official_tiny):
    detector = yolotf.Detector(official_tiny.cfg, official_tiny.weights)
    for path in sorted((data_set / "JPEGImages").glob("*.png")):
        with Image.open(path) as picture:
            width, height = picture.size
        ours, theirs = (
            by_class_and_score(detector(path)),
            of_class_by_score(FACTS["test"][path.name]),
        )
        assert [row[0] for row in ours] == [row[0] for row in theirs], path.name
        scores = [row[1] for row in ours]
        np.testing.assert_allclose(scores, [row[1] for row in theirs], atol=5e-5)
        for (_, _, (left, top, right, bottom)), (_, _, *relative) in zip(ours, theirs, strict=True):
            centre = (left + right) / 2 / width, (top + bottom) / 2 / height
            size = (right - left) / width, (bottom - top) / height
            np.testing.assert_allclose((*centre, *size), relative, atol=1e-4)


def differences(first, second):
    """How the scores of detections of the same class with an overlap above 0.5 differ."""
    for class_id, score, box in first:
        scores = [
            other_score
            for other_class, other_score, other in second
            if other_class == class_id and overlap(box, other) > 0.5
        ]
        if scores:
            yield min(abs(other_score - score) for other_score in scores)


def corners(rows, *, relative, size):
    width, height = size if relative else (1, 1)
    for class_id, score, x, y, w, h in rows:
        left, top = (x - w / 2, y - h / 2) if relative else (x, y)
        box = (left * width, top * height, (left + w) * width, (top + h) * height)
        yield class_id, score, box


def test_scores_change_with_hank_ais_resizing_as_in_its_tools(data_set, official_tiny):
    """From `test` to `predict()`: 0.0274 on average and 0.1458 at most, there and here."""
    darknets = yolotf.Detector(official_tiny.cfg, official_tiny.weights)
    opencvs = like_predict(official_tiny.cfg, official_tiny)
    there, here = [], []
    for path in sorted((data_set / "JPEGImages").glob("*.png")):
        with Image.open(path) as picture:
            size = picture.size
        there += differences(
            corners(FACTS["test"][path.name], relative=True, size=size),
            list(corners(FACTS["predict"][path.name], relative=False, size=size)),
        )
        cut = opencvs(path).clip(size[::-1])
        here += differences(by_class_and_score(darknets(path)), by_class_and_score(cut))
    for scores in (there, here):
        assert len(scores) == PAIRS
        assert np.mean(scores) == pytest.approx(MEAN_DIFFERENCE, abs=5e-5)
        assert max(scores) == pytest.approx(LARGEST_DIFFERENCE, abs=5e-5)
    assert LARGEST_DIFFERENCE <= 0.15


def overlap(a, b):
    across = min(a[2], b[2]) - max(a[0], b[0])
    down = min(a[3], b[3]) - max(a[1], b[1])
    intersection = max(across, 0) * max(down, 0)
    return intersection / (
        (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - intersection
    )


def test_clip_cuts_boxes_at_the_image_edge():
    boxes = [[-5, -3, 20, 30], [80, 10, 130, 60], [200, 200, 210, 220], [1, 2, 3, 4]]
    detections = Detections.of(boxes, [0.9, 0.8, 0.7, 0.6], [0, 1, 0, 1], ("a", "b"))
    cut = detections.clip((50, 100))
    assert cut.xyxy.tolist() == [
        [0, 0, 20, 30],
        [80, 10, 100, 50],
        [100, 50, 100, 50],
        [1, 2, 3, 4],
    ]
    assert cut.xyxy.dtype == np.float32
    for field in dataclasses.fields(Detections):
        if field.name != "xyxy":
            assert getattr(cut, field.name) is getattr(detections, field.name)
    assert detections.xyxy.tolist() == boxes  # as before
    assert len(Detections.of([], [], []).clip((50, 100))) == 0


@pytest.mark.parametrize(
    ("filters", "head"),
    [
        (14, section("region", anchors="1,1,2,2", classes=2, coords=4, num=2, softmax=1)),
        (22, section("Gaussian_yolo", mask="0,1", anchors="9,9,30,30", classes=2, num=2)),
    ],
)
def test_map_of_heads_that_detect_nothing_in_hank_ais_darknet_says_so(filters, head, here, capsys):
    helpers.write_detector(net(32) + conv(filters) + head)
    Image.new("RGB", (40, 30)).save("a.png")
    Path("a.txt").write_text("0 .5 .5 .4 .4\n")
    Path("list.txt").write_text("a.png\n")
    Path("a.data").write_text("classes=2\nvalid=list.txt\n")
    arguments = ["eval", "--data", "a.data", "--cfg", "net.cfg", "--weights", "net.weights"]
    assert main([*arguments, "--like", "hank-ai"]) == 0
    said(capsys.readouterr().err)
    assert main(arguments) == 0
    assert "hank-ai" not in capsys.readouterr().err


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path
