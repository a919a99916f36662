"""Scores against Darknet's loops written out, pycocotools and figures worked out by hand."""

import contextlib
import json
import math
import sys
import threading
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from support.messages import refused, said
from yolotf import evaluation
from yolotf.cli.commands import main
from yolotf.errors import MissingPackageError, YolotfError
from yolotf.evaluation import darknet_score
from yolotf.evaluation import labels as labels_module
from yolotf.images.detections import Detections

NAMES = ("cat", "dog", "cow")


def truths(rows):
    table = np.array(rows, float).reshape(-1, 5)
    return evaluation.Truths(table[:, 0].astype(np.int64), table[:, 1:].astype(np.float32))


def picture(rows, difficult=(), number=0):
    return evaluation.AnnotatedImage(f"{number}.jpg", truths(rows), truths(difficult), number)


def detections(rows, size):
    """Rows of class, score, centre x, y, width, height, relative."""
    width, height = size
    table = np.array(rows, float).reshape(-1, 6)
    x, y, w, h = table[:, 2:].T
    corners = np.stack(
        [(x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height], 1
    )
    return Detections.of(corners, table[:, 1], table[:, 0], NAMES), size


def random_set(seed, pictures=12):
    random = np.random.default_rng(seed)
    detected, labelled = [], []
    for number in range(pictures):
        boxes = np.concatenate(
            [random.uniform(0.2, 0.8, (6, 2)), random.uniform(0.1, 0.4, (6, 2))], 1
        )
        kinds = random.integers(0, 3, 6)
        rows = [[k, *box] for k, box in zip(kinds, boxes, strict=True)]
        seen = []
        for place in range(14):
            k, *box = rows[place % 6]
            box = np.array(box) + random.normal(0, 0.03, 4)
            k = k if random.random() < 0.8 else random.integers(0, 3)
            seen.append([k, np.float32(random.uniform(0.006, 1)), *np.maximum(box, 0.02)])
        labelled.append(picture(rows[:5], rows[5:], number))
        detected.append(detections(sorted(seen, key=lambda row: -row[1]), (640, 480)))
    return detected, labelled


def slow_map(detected, labelled, threshold, points, score):
    """Darknet's loops: one row of counts for every detection of every class."""
    ranked, tp, fp, total, iou_sum, start = [], [0] * 3, [0] * 3, [0] * 3, 0.0, 0
    for (some, size), annotated in zip(detected, labelled, strict=True):
        boxes = evaluation.relative(some.xyxy, size)
        for k in annotated.truths.classes:
            total[k] += 1
        seen = set()
        for i in range(len(some)):
            k, p = int(some.classes[i]), float(some.scores[i])
            best, most = -1, 0.0
            for j, (label, box) in enumerate(zip(*annotated.truths, strict=True)):
                overlap = slow_iou(boxes[i], box)
                if overlap > threshold and label == k and overlap > most:
                    best, most = j, overlap
            spared = best < 0 and any(
                label == k and slow_iou(boxes[i], box) > threshold
                for label, box in zip(*annotated.difficult, strict=True)
            )
            if not spared:
                ranked.append((p, k, start + best if best >= 0 else -1))
            if p > score:
                if best >= 0 and best not in seen:
                    tp[k] += 1
                    iou_sum += most
                else:
                    fp[k] += 1
            seen.add(best)
        start += len(annotated.truths.classes)
    ranked.sort(key=lambda row: -row[0])
    aps = []
    for k in range(3):
        hits, misses, taken, rows = 0, 0, set(), []
        for _, kind, label in ranked:
            if kind == k:
                if label >= 0 and label not in taken:
                    hits += 1
                else:
                    misses += 1
            taken.add(label)
            precision = hits / (hits + misses) if hits + misses else 0
            rows.append((precision, hits / total[k] if total[k] else 0))
        if points:
            wanted = [step / (points - 1) for step in range(points)]
            best = [max((p for p, r in rows if r >= w), default=0) for w in wanted]
            aps.append(sum(best) / points)
            continue
        last_precision, last_recall = rows[-1]
        area = 0
        for precision, recall in reversed(rows[:-1]):
            last_precision = max(last_precision, precision)
            area += (last_recall - recall) * last_precision
            last_recall = recall
        aps.append(area + last_recall * last_precision)
    return aps, tp, fp, iou_sum / (sum(tp) + sum(fp))


def slow_iou(a, b):
    w = min(a[0] + a[2] / 2, b[0] + b[2] / 2) - max(a[0] - a[2] / 2, b[0] - b[2] / 2)
    h = min(a[1] + a[3] / 2, b[1] + b[3] / 2) - max(a[1] - a[3] / 2, b[1] - b[3] / 2)
    intersection = w * h if w > 0 and h > 0 else 0
    return intersection / (a[2] * a[3] + b[2] * b[3] - intersection)


@pytest.mark.parametrize("points", [0, 2, 11, 101])
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.75])
@pytest.mark.parametrize("seed", range(3))
def test_score_matches_darknets_loops(seed, threshold, points):
    detected, labelled = random_set(seed)
    result = evaluation.score(
        detected, labelled, NAMES, match_iou=threshold, points=points, score_threshold=0.4
    )
    aps, tp, fp, average = slow_map(detected, labelled, threshold, points, 0.4)
    np.testing.assert_allclose([counts.ap for counts in result.classes], aps, atol=1e-12)
    assert 0.05 < result.mean_ap < 0.95
    assert [counts.tp for counts in result.classes] == tp
    assert [counts.fp for counts in result.classes] == fp
    assert result.average_iou == pytest.approx(average, rel=1e-5)
    assert result.fn == 60 - sum(tp)


def test_score_of_one_image_matches_a_count_by_hand():
    labels = [[0, 0.25, 0.5, 0.2, 0.4], [0, 0.75, 0.5, 0.2, 0.4]]
    seen = [
        [0, 0.9, 0.25, 0.5, 0.2, 0.4],  # right
        [0, 0.8, 0.25, 0.5, 0.2, 0.36],  # the same again
        [0, 0.7, 0.75, 0.5, 0.2, 0.3],  # right, by three quarters
        [1, 0.6, 0.75, 0.5, 0.2, 0.4],  # of another class
        [0, 0.2, 0.5, 0.1, 0.1, 0.1],  # nothing there, below the threshold
    ]
    result = evaluation.score([detections(seen, (100, 100))], [picture(labels)], NAMES[:2])
    cat, dog = result.classes
    assert (cat.tp, cat.fp, cat.fn) == (2, 1, 0)
    assert (dog.tp, dog.fp, dog.ap) == (0, 1, 0)
    # Recall 1/2 at precision 1, then a miss, then recall 1 at 2/3.
    assert cat.ap == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3)
    voc = evaluation.score([detections(seen, (100, 100))], [picture(labels)], NAMES[:2], points=11)
    assert voc.classes[0].ap == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)
    assert result.average_iou == pytest.approx((1 + 0.75) / 4, rel=1e-5)
    assert result.to_dict()["precision"] == 0.5
    assert result.to_dict()["f1"] == pytest.approx(2 * 0.5 * 1 / 1.5)
    text = str(result)
    assert "class_id = 0, name = cat, ap = 83.33%   \t (TP = 2, FP = 1)" in text
    assert "precision = 0.50, recall = 1.00, F1-score = 0.67" in text
    assert "TP = 2, FP = 2, FN = 0, average IoU = 43.75 %" in text
    assert "mean average precision (mAP@0.50) = 0.416667, or 41.67 %" in text


def test_area_uses_the_precision_before_each_recall_step():
    hits = np.array([True, True, False, True])
    precisions, recalls = np.cumsum(hits) / np.arange(1, 5), np.cumsum(hits) / 3
    assert evaluation.average_precision(precisions, recalls) == pytest.approx((1 + 1 + 3 / 4) / 3)
    falling = np.array([1.0, 0.5]), np.array([0.5, 1.0])
    assert evaluation.average_precision(*falling) == pytest.approx(0.5 * 1 + 0.5 * 1)
    assert evaluation.average_precision(np.zeros(0), np.zeros(0)) == 0


def test_memory_for_an_image_of_many_labels_is_bounded():
    rng = np.random.default_rng(1)
    boxes = rng.uniform(0.01, 0.5, (20_000, 4))
    labels = np.column_stack([rng.integers(0, 3, 20_000), boxes])
    rows = np.column_stack([labels[:300, 0], rng.uniform(0.3, 1, 300), boxes[:300]])
    detected = detections(rows, (640, 480))
    tracemalloc.start()
    try:
        score = evaluation.score([detected], [picture(labels, difficult=labels)], NAMES)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert score.tp == 300
    assert peak < 150e6


def test_scores_do_not_depend_on_how_many_ious_are_computed_at_once(monkeypatch):
    rng = np.random.default_rng(2)
    labels = np.column_stack([rng.integers(0, 3, 40), rng.uniform(0.2, 0.6, (40, 4))])
    rows = np.column_stack([labels[:, 0], rng.uniform(size=40), labels[::-1, 1:]])
    score = evaluation.score([detections(rows, (64, 48))], [picture(labels)], NAMES)
    monkeypatch.setattr(darknet_score, "_IOUS_AT_ONCE", 100)
    again = evaluation.score([detections(rows, (64, 48))], [picture(labels)], NAMES)
    assert again.to_dict() == score.to_dict()
    assert 0 < score.tp < 40


def test_a_file_of_more_labels_than_an_image_has_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(labels_module, "MAX_LABELS", 1000)
    path = tmp_path / "a.txt"
    row = "0 .5 .5 .1 .1"
    path.write_text(f"{row}\n" * labels_module.MAX_LABELS)
    assert len(labels_module.read_labels(path).truths.classes) == labels_module.MAX_LABELS
    path.write_text(f"{row} {row}\n" * labels_module.MAX_LABELS)
    with refused(YolotfError, path=str(path), line=labels_module.MAX_LABELS // 2 + 1):
        labels_module.read_labels(path)
    path.write_text(" " * (labels_module.MAX_LABELS_BYTES + 1))
    with refused(OSError):
        labels_module.read_labels(path)


def test_empty_detections_and_empty_labels_have_a_score():
    result = evaluation.score([detections([], (9, 9))], [picture([])], NAMES)
    assert result.mean_ap == 0
    assert result.to_dict()["precision"] is None
    json.dumps(result.to_dict(), allow_nan=False)
    assert "precision = -" in str(result)


def test_boxes_that_overflow_have_a_finite_score():
    overflowing = Detections.of([[-1e38, 0, 1e38, 5], [0, 0, 9, 9]], [0.9, 0.8], [0, 0])
    result = evaluation.score([(overflowing, (9, 9))], [picture([[0, 0.5, 0.5, 1, 1]])], NAMES)
    assert math.isfinite(result.mean_ap)
    assert result.classes[0].tp == 1


@pytest.mark.parametrize(
    ("given", "labels"),
    [
        ("a/b.jpg", "a/b.txt"),
        ("a.jpg.png", "a.jpg.txt"),
        ("/d/images/val2017/1.jpg", "/d/labels/val2017/1.txt"),
        ("/voc/JPEGImages/1.JPEG", "/voc/labels/1.txt"),
        ("d/images/1.jpg", "d/images/1.txt"),
        ("a.tiff", "a.txt"),
    ],
)
def test_labels_are_where_darknet_looks(given, labels):
    assert str(evaluation.label_path(given)) == labels


def data_set(folder, difficult=False):
    (folder / "data").mkdir()
    for number in range(3):
        Image.new("RGB", (64, 48), (80 * number, 9, 9)).save(folder / f"data/{number}.png")
    (folder / "data/0.txt").write_text("0 0.5 0.5 0.2 0.2\n\n2 0.1 0.1 0.2 0.2\n")
    (folder / "data/1.txt").write_text("")
    (folder / "data/valid.txt").write_text("".join(f"data/{number}.png\n" for number in range(3)))
    (folder / "data/obj.names").write_text("cat\ndog\ncow\n")
    text = "classes = 3\n# a remark\nvalid = data/valid.txt\nnames=data/obj.names\n"
    (folder / "data/obj.data").write_text(text)
    return folder / "data/obj.data"


def test_data_files_are_read_from_any_working_folder(tmp_path, monkeypatch):
    path = data_set(tmp_path)
    for folder in (tmp_path, tmp_path / "data", tmp_path.parent):
        monkeypatch.chdir(folder)
        data = evaluation.read_darknet(path)
        assert (data.class_names, data.classes) == (NAMES, 3)
        assert [image.truths.classes.tolist() for image in data.images] == [[0, 2], [], []]
        assert [image.name for image in data.unlabelled] == ["2.png"]
        assert all(image.path.exists() for image in data.images)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("obj.data", "classes 3\n"),
        ("obj.data", "classes=3\n"),
        ("valid.txt", "\n\n"),
        ("0.txt", "0 1 .2 .3 .4\n0 .5 .5 .2\n"),
        ("0.txt", "3 .5 .5 .2 .2"),
        ("0.txt", "-1 .5 .5 .2 .2"),
        ("0.txt", "0 .5 nan .2 .2"),
        ("0.txt", "cat .5 .5 .2 .2"),
    ],
)
def test_invalid_data_sets_are_refused_with_their_place(file, content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = data_set(tmp_path)
    (tmp_path / "data" / file).write_text(content)
    with refused(YolotfError):
        evaluation.read_darknet(path)


def coco_file(folder):
    content = {
        "images": [
            {"id": 7, "file_name": "0.png", "width": 64, "height": 48},
            {"id": 9, "file_name": "1.png", "width": 64, "height": 48},
        ],
        "annotations": [
            {
                "id": 1,
                "image_id": 7,
                "category_id": 5,
                "bbox": [8, 6, 32, 24],
                "area": 768,
                "iscrowd": 0,
            },
            {
                "id": 2,
                "image_id": 7,
                "category_id": 3,
                "bbox": [0, 0, 16, 12],
                "area": 192,
                "iscrowd": 1,
            },
            {
                "id": 3,
                "image_id": 9,
                "category_id": 3,
                "bbox": [2, 2, 40, 40],
                "area": 1600,
                "iscrowd": 0,
            },
        ],
        "categories": [
            {"id": 5, "name": "dog"},
            {"id": 3, "name": "cat"},
            {"id": 8, "name": "cow"},
        ],
    }
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    return path


def test_coco_files_give_truths_relative_to_the_picture(tmp_path):
    data = evaluation.read_coco(coco_file(tmp_path))
    assert (data.class_names, data.categories) == (NAMES, (3, 5, 8))
    first, second = data.images
    assert first.truths.classes.tolist() == [1]
    np.testing.assert_allclose(first.truths.boxes, [[0.375, 0.375, 0.5, 0.5]])
    assert first.difficult.classes.tolist() == [0]
    assert (second.path, second.coco_id) == (tmp_path / "1.png", 9)
    (tmp_path / "bad.json").write_text('{"images": []}')
    with refused(YolotfError):
        evaluation.read_coco(tmp_path / "bad.json")
    (tmp_path / "bad.json").write_text("no")
    with refused(YolotfError):
        evaluation.read_coco(tmp_path / "bad.json")


def test_coco_numbers_of_perfect_detections(tmp_path):
    pytest.importorskip("pycocotools")
    data = evaluation.read_coco(coco_file(tmp_path))
    perfect = [
        detections([[1, 0.9, 0.375, 0.375, 0.5, 0.5]], (64, 48)),
        detections([[0, 0.8, 22 / 64, 22 / 48, 40 / 64, 40 / 48]], (64, 48)),
    ]
    numbers = evaluation.coco_numbers(perfect, data)
    assert tuple(numbers) == evaluation.COCO_NUMBERS
    assert numbers["AP"] == pytest.approx(1)
    assert numbers["AR100"] == pytest.approx(1)
    nothing = [detections([], (64, 48))] * 2
    assert evaluation.coco_numbers(nothing, data)["AP"] == 0


def test_next_images_are_read_while_the_network_runs(monkeypatch):
    begun = threading.Event()

    def read(path, channels, max_pixels):
        if path == "2.jpg":
            begun.set()
        return np.full((4, 5, channels), int(path[0]), np.uint8)

    monkeypatch.setattr("yolotf.evaluation.detecting.read_picture", read)
    batches, progress = [], []

    def detect(arrays):
        if not batches:
            assert begun.wait(60), "the second batch waits for the first"
        batches.append([int(pixels[0, 0, 0]) for pixels in arrays])
        return [detections([[0, 0.9, 0.5, 0.5, 0.2, 0.2]], (5, 4))[0] for _ in arrays]

    data = evaluation.DataSet("a", tuple(picture([], number=number) for number in range(5)))
    detected = evaluation.detect_all(
        detect, data, batch_size=2, progress=lambda *call: progress.append(call)
    )
    assert batches == [[0, 1], [2, 3], [4]]
    assert progress == [("detecting", done, 5) for done in (0, 2, 4, 5)]
    assert [size for _, size in detected] == [(5, 4)] * 5


@pytest.fixture
def official_set(official_tiny, tmp_path, monkeypatch):
    """The two photographs, labelled with the network's detections above 0.5."""
    from yolotf.inference import Detector

    monkeypatch.chdir(tmp_path)
    names = [line for line in official_tiny.names.read_text().splitlines() if line]
    detector = Detector(official_tiny.cfg, official_tiny.weights, score_threshold=0.5)
    listed = []
    for source in (official_tiny.bus, official_tiny.zidane):
        with Image.open(source) as image:
            size = image.size
            image.save(tmp_path / source.name)
        detected = detector(tmp_path / source.name)
        rows = [
            f"{k} {' '.join(f'{value:.6f}' for value in box)}"
            for k, box in zip(
                detected.classes, evaluation.relative(detected.xyxy, size), strict=True
            )
        ]
        (tmp_path / source.name).with_suffix(".txt").write_text("\n".join(rows))
        listed.append(source.name)
    (tmp_path / "valid.txt").write_text("\n".join(listed))
    (tmp_path / "coco.names").write_text("\n".join(names))
    (tmp_path / "obj.data").write_text("classes=80\nvalid=valid.txt\nnames=coco.names\n")
    return official_tiny


@pytest.mark.slow
def test_eval_of_the_official_file(official_set, tmp_path, capsys):
    arguments = ["--cfg", str(official_set.cfg), "--weights", str(official_set.weights)]
    assert main(["eval", "--data", "obj.data", *arguments, "--json", "--plot", "pr.png"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["pictures"] == 2
    assert result["truths"] == result["tp"] + result["fn"]
    assert result["recall"] == 1
    by_name = {counts["name"]: counts for counts in result["classes"]}
    assert by_name["person"]["ap"] == pytest.approx(1)
    assert by_name["person"]["average_iou"] > 0.5
    assert by_name["zebra"]["ap"] == 0
    with Image.open(tmp_path / "pr.png") as image:
        assert image.size == (1050, 750)
    assert main(["eval", "--data", "obj.data", *arguments, "-points", "11"]) == 0
    text = capsys.readouterr().out
    assert "name = person, ap = 100.00%" in text
    assert "used 11 Recall-points" in text


def test_eval_of_a_coco_file(official_set, tmp_path, capsys):
    pytest.importorskip("pycocotools")
    labelled = evaluation.read_darknet(tmp_path / "obj.data")
    content = {"images": [], "annotations": [], "categories": []}
    content["categories"] = [
        {"id": 10 + k, "name": name} for k, name in enumerate(labelled.class_names)
    ]
    for number, annotated in enumerate(labelled.images):
        with Image.open(annotated.path) as image:
            width, height = image.size
        about = {"id": number, "file_name": annotated.path.name, "width": width, "height": height}
        content["images"].append(about)
        for k, (x, y, w, h) in zip(*annotated.truths, strict=True):
            box = [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": number,
                    "category_id": 10 + int(k),
                    "bbox": [float(value) for value in box],
                    "area": float(w * h * width * height),
                    "iscrowd": 0,
                }
            )
    (tmp_path / "instances.json").write_text(json.dumps(content))
    arguments = ["--cfg", str(official_set.cfg), "--weights", str(official_set.weights)]
    assert main(["eval", "--coco", "instances.json", *arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["coco"]["AP50"] == pytest.approx(1, abs=0.02)
    assert result["coco"]["AP"] > 0.9
    assert main(["eval", "--data", "obj.data", *arguments, "--json"]) == 0
    darknet = json.loads(capsys.readouterr().out)
    for key in ("map", "tp", "fp", "fn", "detections"):
        assert result[key] == pytest.approx(darknet[key], abs=1e-6)


def test_comparing_two_results(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    detected, labelled = random_set(1)
    for name, threshold in (("a", 0.5), ("b", 0.75)):
        result = evaluation.score(detected, labelled, NAMES, match_iou=threshold)
        (tmp_path / f"{name}.json").write_text(json.dumps(result.to_dict()))
    assert main(["eval", "--compare", "a.json", "b.json"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("iou_threshold differs: 0.5 and 0.75\n")
    assert main(["eval", "--compare", "a.json", "b.json", "--json"]) == 0
    difference = json.loads(capsys.readouterr().out)
    assert difference["numbers"]["map"]["difference"] < -0.05
    assert set(difference["classes"]) == set(NAMES)
    changes = [abs(change["difference"]) for change in difference["classes"].values()]
    assert changes == sorted(changes, reverse=True)
    (tmp_path / "c.json").write_text("{}")
    assert main(["eval", "--compare", "a.json", "c.json"]) == 2
    said(capsys.readouterr().err)


def test_wrong_usage_of_eval(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["eval", "--data", "obj.data"])
    assert ended.value.code == 2
    said(capsys.readouterr().err.splitlines()[-1])
    assert main(["eval", "--data", "none.data", "--cfg", "yolov4-tiny", "--weights", "none"]) == 2
    said(capsys.readouterr().err)
    for options in ({"points": 1}, {"match_iou": 1.0}, {"score_threshold": -0.1}):
        with refused(ValueError):
            evaluation.score([], [], NAMES, **options)
        with refused(ValueError):  # before the file is looked for
            evaluation.evaluate("yolov4-tiny", "none", evaluation.DataSet("a", ()), **options)


def test_eval_checks_for_plot_and_packages_before_it_detects(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["eval", "--data", "none.data", "--cfg", "yolov4-tiny", "--weights", "none"]
    assert main([*arguments, "--plot", "pr.doc"]) == 2
    said(capsys.readouterr().err, hide=r"(?<=use one of ).*")  # those of matplotlib
    assert main([*arguments, "--plot", "none/pr.png"]) == 2
    said(capsys.readouterr().err)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main([*arguments, "--plot", "pr.png"]) == 2
    said(capsys.readouterr().err)
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    data = evaluation.read_coco(coco_file(tmp_path))
    with refused(MissingPackageError):
        evaluation.evaluate("yolov4-tiny", "none", data)


HOSTILE = {
    "an id of 400 digits": ("annotations", {"image_id": 10**400}),
    "a crowd of 400 digits": ("annotations", {"iscrowd": 10**400}),
    "an area of 400 digits": ("annotations", {"area": 10**400}),
    "a box of 400 digits": ("annotations", {"bbox": [10**400, 1, 1, 1]}),
    "a box that is none": ("annotations", {"bbox": [float("nan")] * 4}),
    "a width of 400 digits": ("images", {"width": 10**400}),
    "a category of 400 digits": ("categories", {"id": 10**400}),
    "a category without a name": ("categories", {"name": None}),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_coco_file_of_absurd_values_is_read_or_refused(case, tmp_path):
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 4, "height": 4}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2]}],
        "categories": [{"id": 1, "name": "a"}],
    }
    key, change = HOSTILE[case]
    content[key][0].update(change)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with contextlib.suppress(YolotfError):
        assert len(evaluation.read_coco(path, images=tmp_path).images) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 200_000,
        b'{"images": [{"id": ' + b"9" * 5000 + b"}]}",
        b"{",
        b'"\xff"',
        b"NaN",
        b'{"images": {}}',
        b'{"images": [1]}',
        b'{"images": []}',
    ],
)
def test_files_that_are_not_coco_are_refused_with_the_reason(content, tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with refused(YolotfError, hide="(?<=it is not JSON: ).*"):
        evaluation.read_coco(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.data", "classes={}\nvalid=list.txt\nnames=a.names\n"),
        ("a.yaml", "nc: {}\nval: list.txt\nnames: [a, b]\n"),
        ("a.yaml", "val: list.txt\nnames:\n  0: a\n  ? '{}'\n  : b\n"),
        ("a.yaml", "val: list.txt\nnames: {}\n"),
    ],
)
def test_a_data_file_of_absurd_numbers_is_read_or_refused(name, content, tmp_path):
    path = tmp_path / name
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("0 .5 .5 .5 .5\n")
    (tmp_path / "list.txt").write_text("a.png\n")
    (tmp_path / "a.names").write_text("a\nb\n")
    for number in ("9" * 5000, "9" * 30, "\u00b2", "-1", "1e999", ".nan", "[" * 5_000):
        path.write_text(content.format(number))
        message = str(path)
        try:
            evaluation.read_data_set(path)
        except YolotfError as error:
            message = str(error)
        assert str(path) in message


def test_names_that_a_data_file_points_to_are_not_quoted(tmp_path):
    secret = "root:x:0:0:root:/root:/bin/bash"
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("0 .5 .5 .5 .5\n")
    (tmp_path / "list.txt").write_text("a.png\n")
    (tmp_path / "passwd").write_text(f"{secret}\nb\n")
    (tmp_path / "a.data").write_text("valid=list.txt\nnames=passwd\n")
    data = evaluation.read_data_set(tmp_path / "a.data")
    notes = "\n".join(evaluation.paired(data, ("a", "b"), 2).notes)
    said(notes)
    with refused(YolotfError) as caught:
        evaluation.paired(data, ("a", "b", "c"), 3)
    assert "bash" not in notes + str(caught.value)
