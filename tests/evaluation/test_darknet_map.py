"""The figures that `darknet detector map` itself printed for a small labelled set, met to the last
digit, and COCO's numbers of the same set by COCO's rules written out."""

import dataclasses
import json
from functools import cache

import numpy as np
import pytest
from PIL import Image

from support import helpers
from support import slow_decoding as slow
from support.labelled_pictures import FACTS, write_set
from support.messages import refused
from yolotf import evaluation
from yolotf.cli.commands import main
from yolotf.runtime.decoding import Decoder

pytestmark = pytest.mark.slow

RUNS = {run["name"]: run for run in FACTS["runs"]}
OFFICIAL = [name for name, run in RUNS.items() if run["network"] == "yolov4-tiny"]
NOTHING = "ap = 0.00%   \t (TP = 0, FP = 0)"


@pytest.fixture(scope="module")
def labelled(official_tiny, tmp_path_factory):
    return write_set(official_tiny, tmp_path_factory.mktemp("map") / "set")


def lines(text):
    return [line for line in text.splitlines() if line and not line.endswith(NOTHING)]


def assert_as_darknet(run, labelled, cfg, weights):
    data = evaluation.read_darknet(labelled / ("hard.data" if run["difficult"] else "obj.data"))
    result = evaluation.evaluate(cfg, weights, data, **run["options"])
    assert lines(str(result)) == run["lines"]
    assert result.detections == run["detections"]
    assert len(str(result).splitlines()) - len(lines(str(result))) > 60


@pytest.mark.parametrize("name", OFFICIAL)
def test_map_matches_darknets_for_yolov4_tiny(name, labelled, official_tiny):
    assert_as_darknet(RUNS[name], labelled, official_tiny.cfg, official_tiny.weights)


def others():
    return [run for run in RUNS.values() if run["name"] not in OFFICIAL]


@pytest.mark.parametrize("run", helpers.shared_params(others, lambda run: run["network"]))
def test_map_matches_darknets_for_other_networks(run, labelled):
    path = helpers.SHARED / "corpus/pairs" / run["network"]
    assert_as_darknet(run, labelled, f"{path}.cfg", f"{path}.weights")


def test_eval_takes_darknets_options(labelled, official_tiny, capsys):
    arguments = ["eval", "--data", str(labelled / "obj.data"), "--cfg", str(official_tiny.cfg)]
    arguments += ["--weights", str(official_tiny.weights)]
    assert main([*arguments, "-iou_thresh", "0.75", "-thresh", "0.4", "-points", "0"]) == 0
    assert lines(capsys.readouterr().out) == RUNS["overlap 0.75"]["lines"]
    assert main([*arguments, "-letter_box", "--batch", "5"]) == 0
    assert lines(capsys.readouterr().out) == RUNS["letter box"]["lines"]


@pytest.mark.parametrize("seed", range(5))
def test_boxes_have_the_order_of_darknets_sorts(seed):
    """do_nms_sort sorts the boxes, one class after another, by a stable sort."""
    network = slow.network_of(slow.yolo(), slow.yolo(mask="1"))
    raws = slow.raw_for(network, batch=1, seed=seed)
    options = {"score_threshold": 0.2, "iou_threshold": 0.6, "max_boxes": 1000}
    sizes = [(64, 96)]
    (kept,) = Decoder(network)(raws, sizes[0], sizes, **options)
    (darknet_order,) = Decoder(network, order="alexeyab")(raws, sizes[0], sizes, **options)
    (pairs,) = slow.pairs_of(network, raws, sizes[0], options["score_threshold"])
    boxes = list(dict.fromkeys(box for _, _, box in pairs))
    scores = {(boxes.index(box), class_id): score for score, class_id, box in pairs}
    numbers = list(range(len(boxes)))
    for class_id in range(slow.CLASSES):
        numbers.sort(key=lambda number: -scores.get((number, class_id), 0))
    here = {(round(float(s), 5), int(k)) for s, k in zip(kept.scores, kept.classes, strict=True)}
    wanted = [
        (round(scores[number, class_id], 5), class_id)
        for number in numbers
        for class_id in range(slow.CLASSES)
        if (number, class_id) in scores
    ]
    columns = zip(darknet_order.scores.tolist(), darknet_order.classes.tolist(), strict=True)
    ours = [(round(score, 5), class_id) for score, class_id in columns]
    assert ours == [row for row in wanted if row in here]
    assert ours != sorted(ours, reverse=True)
    assert len(ours) > 10


@pytest.mark.parametrize("order", ["alexeyab", "hank-ai"])
def test_an_order_changes_no_detection(order):
    network = slow.network_of(slow.yolo(), slow.region(), slow.yolo(mask="1"))
    raws = slow.raw_for(network, batch=3)
    sizes = [(64, 96), (20, 30), (200, 90)]
    plain = Decoder(network)(raws, sizes[0], sizes, score_threshold=0.005, max_boxes=1000)
    others = Decoder(network, order=order)(
        raws, sizes[0], sizes, score_threshold=0.005, max_boxes=1000
    )
    for first, second in zip(plain, others, strict=True):
        columns = [np.column_stack([f.boxes, f.scores, f.classes]) for f in (first, second)]
        rows = [sorted(map(tuple, column.tolist())) for column in columns]
        assert rows[0] == rows[1]
        assert columns[0].tolist() != columns[1].tolist()


# COCO's rules (cocoeval.py), one class, size and overlap after another.

SIZES = {"": (0, 1e10), "s": (0, 32**2), "m": (32**2, 96**2), "l": (96**2, 1e10)}


def slow_coco(detections, truths, classes):
    """COCO's twelve numbers; `detections` and `truths` hold a list of rows for each image."""
    overlaps = np.linspace(0.5, 0.95, 10)

    def mean(values):
        values = [value for value in values if value > -1]
        return sum(values) / len(values) if values else -1

    @cache
    def of_class(class_id, size, most, overlap):
        return slow_coco_class(detections, truths, class_id, SIZES[size], most, overlap)

    def over(part, size="", most=100, some=overlaps):
        return mean([of_class(k, size, most, o)[part] for k in classes for o in some])

    numbers = {"AP": over(0), "AP50": over(0, some=[0.5]), "AP75": over(0, some=[overlaps[5]])}
    numbers |= {f"AP{size}": over(0, size) for size in "sml"}
    numbers |= {f"AR{most}": over(1, "", most) for most in (1, 10, 100)}
    return numbers | {f"AR{size}": over(1, size) for size in "sml"}


def slow_coco_class(detections, truths, class_id, size, most, overlap):
    """Average precision over 101 recalls, and the last recall; -1 without a truth."""
    rows, count = [], 0
    for some, labels in zip(detections, truths, strict=True):
        labels = [label for label in labels if label["class"] == class_id]
        spared = [label["crowd"] or not size[0] <= label["area"] <= size[1] for label in labels]
        count += spared.count(False)
        order = sorted(range(len(labels)), key=spared.__getitem__)
        taken = set()
        mine = sorted((row for row in some if row["class"] == class_id), key=lambda row: -row["p"])
        for detection in mine[:most]:
            best, at = min(overlap, 1 - 1e-10), None
            for index in order:
                if index in taken and not labels[index]["crowd"]:
                    continue
                if at is not None and not spared[at] and spared[index]:
                    break
                value = slow_overlap(detection["box"], labels[index]["box"], labels[index]["crowd"])
                if value >= best:
                    best, at = value, index
            if at is None:
                area = detection["box"][2] * detection["box"][3]
                ignored = not size[0] <= area <= size[1]
            else:
                taken.add(at)
                ignored = spared[at]
            if not ignored:
                rows.append((detection["p"], at is not None))
    if not count:
        return -1, -1
    rows.sort(key=lambda row: -row[0])
    hits = np.cumsum([hit for _, hit in rows])
    recalls, precisions = hits / count, hits / np.arange(1, len(rows) + 1)
    points = [precisions[recalls >= wanted] for wanted in np.linspace(0, 1, 101)]
    return sum(reached.max() for reached in points if len(reached)) / 101, recalls[-1] if len(
        rows
    ) else 0


def slow_overlap(a, b, crowd):
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    intersection = max(width, 0) * max(height, 0)
    return intersection / (a[2] * a[3] if crowd else a[2] * a[3] + b[2] * b[3] - intersection)


def test_coco_numbers_match_a_plain_implementation_of_its_rules(
    labelled, official_tiny, tmp_path, capsys
):
    pytest.importorskip("pycocotools")
    data = evaluation.read_darknet(labelled / "hard.data")
    content = {"images": [], "annotations": []}
    content["categories"] = [
        {"id": 100 + k, "name": name} for k, name in enumerate(data.class_names)
    ]
    truths = []
    for number, detection in enumerate(data.images):
        with Image.open(detection.path) as image:
            width, height = image.size
        about = {"id": number, "file_name": detection.path.name, "width": width, "height": height}
        content["images"].append(about)
        truths.append([])
        for labels, crowd in ((detection.truths, 0), (detection.difficult, 1)):
            for k, (x, y, w, h) in zip(labels.classes.tolist(), labels.boxes.tolist(), strict=True):
                w, h = w * width, h * height
                box = [x * width - w / 2, y * height - h / 2, w, h]
                truths[-1].append({"class": k, "box": box, "area": w * h, "crowd": crowd})
                content["annotations"].append(
                    {
                        "id": len(content["annotations"]) + 1,
                        "image_id": number,
                        "category_id": 100 + k,
                        "bbox": box,
                        "area": w * h,
                        "iscrowd": crowd,
                    }
                )
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    arguments = ["eval", "--coco", str(path), "--images", str(labelled), "--json"]
    arguments += ["--cfg", str(official_tiny.cfg), "--weights", str(official_tiny.weights)]
    assert main(arguments) == 0
    numbers = json.loads(capsys.readouterr().out)["coco"]

    from yolotf.inference.detector import Detector

    detector = Detector(
        official_tiny.cfg, official_tiny.weights, score_threshold=0.001, max_boxes=2000
    )
    detections = []
    for picture, about in zip(data.images, content["images"], strict=True):
        detections.append([])
        for detection in detector(picture.path):
            cut = np.clip(detection.xyxy, 0, [about["width"], about["height"]] * 2)
            box = [*cut[:2], *(cut[2:] - cut[:2])]
            detections[-1].append({"class": detection.class_id, "p": detection.score, "box": box})
    wanted = slow_coco(detections, truths, range(80))
    assert tuple(numbers) == evaluation.COCO_NUMBERS == tuple(wanted)
    for name, value in wanted.items():
        assert numbers[name] == pytest.approx(value, abs=1e-9), name
    assert 0.1 < numbers["AP"] < numbers["AP50"] < 0.9
    assert len({round(value, 6) for value in numbers.values()}) > 8


def test_detections_in_an_unlabelled_image_count_as_false(labelled, official_tiny):
    data = evaluation.read_darknet(labelled / "obj.data")
    empty = dataclasses.replace(
        data.images[0],
        truths=evaluation.Truths(np.zeros(0, np.int64), np.zeros((0, 4), np.float32)),
    )
    other = dataclasses.replace(data, images=(empty, *data.images[1:]))
    before, after = (
        evaluation.evaluate(official_tiny.cfg, official_tiny.weights, data_set)
        for data_set in (data, other)
    )
    assert after.detections == before.detections
    assert after.tp + after.fp == before.tp + before.fp
    assert after.tp < before.tp


def test_eval_like_hank_ai_sets_its_options(labelled, official_tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = official_tiny.cfg.read_text().replace("[net]", "[net]\nletter_box=1")
    (tmp_path / "boxed.cfg").write_text(text)
    data = ["eval", "--data", str(labelled / "obj.data"), "--weights", str(official_tiny.weights)]
    results = []
    for cfg in (official_tiny.cfg, "boxed.cfg"):
        like = [*data, "--cfg", str(cfg), "--like", "hank-ai", "--json", "-thresh", "40"]
        assert main(like) == 0
        results.append(json.loads(capsys.readouterr().out))
    first, second = results
    assert (first["like"], first["resize"], first["letter_box"]) == (
        "hank-ai",
        "opencv_exact",
        False,
    )
    assert first["score_threshold"] == 0.4
    # letter_box= of the cfg makes no difference there.
    assert first["classes"] == second["classes"]
    assert main([*data, "--cfg", "boxed.cfg", "--like", "hank-ai"]) == 0
    table = capsys.readouterr().out
    plain = evaluation.evaluate(
        official_tiny.cfg, official_tiny.weights, str(labelled / "obj.data"), like="hank-ai"
    )
    person = plain.classes[0]
    rates = person.to_dict()
    row = table.splitlines()[1].split()
    assert row[:2] == ["0", "person"]
    assert [float(value) for value in row[2:]] == pytest.approx(
        [
            *(100 * person.ap, person.truths, person.tp, person.fp, person.fn),
            *(rates["precision"], rates["recall"], rates["f1"], 100 * person.average_iou),
        ],
        abs=0.006,
    )
    assert table.splitlines()[-3:] == str(plain).splitlines()[-3:]
    with refused(ValueError):
        evaluation.evaluate("yolov4-tiny", "none", plain, like="darknet")
