"""Data sets in the shapes that labelling tools write, evaluated as their owner would type it."""

from __future__ import annotations

import io
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support import label_tools
from support.messages import refused, said
from yolotf import evaluation
from yolotf.cli.commands import main
from yolotf.darknet.coco import COCO_NAMES
from yolotf.errors import YolotfError
from yolotf.images.detections import Detections

NAMES = ["person", "car", "tie"]
ROWS = [
    [(0, 5, 6, 20, 30), (2, 40, 10, 10, 10)],
    [(1, 1, 1, 30, 30)],
    [],
    [(2, 8, 8, 16, 24), (2, 30, 20, 12, 20)],
]


@pytest.fixture
def pictures(tmp_path):
    random = np.random.default_rng(5)
    (tmp_path / "source").mkdir()
    pictures_written = []
    for number, rows in enumerate(ROWS):
        path = tmp_path / "source" / f"street {number}.png"
        Image.fromarray(random.integers(0, 256, (48, 64, 3), np.uint8)).save(path)
        pictures_written.append(label_tools.Picture(path, rows))
    return pictures_written


def read(arguments):
    kind, path = arguments
    if kind == "--coco":
        return evaluation.read_coco(path)
    return evaluation.read_data_set(path)


def by_name(data):
    """What is in each picture: names and boxes in pixels."""
    boxes = {}
    for image_labels in data.images:
        assert image_labels.path.is_file()
        with Image.open(image_labels.path) as image:
            width, height = image.size
        boxes[image_labels.path.name] = [
            (
                data.class_names[k],
                round((x - w / 2) * width),
                round((y - h / 2) * height),
                round(w * width),
                round(h * height),
            )
            for k, (x, y, w, h) in zip(*image_labels.truths, strict=True)
        ]
    return boxes


def expected():
    return {
        f"street {number}.png": [(NAMES[k], *box) for k, *box in rows]
        for number, rows in enumerate(ROWS)
    }


@pytest.mark.parametrize("tool", label_tools.TOOLS)
def test_every_tools_export_is_read(tool, pictures, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    data = read(label_tools.TOOLS[tool](tmp_path / "set", pictures, NAMES))
    assert by_name(data) == expected()
    # As of a network whose classes are in the order of NAMES, whatever the tool's is.
    paired = evaluation.paired(data, NAMES, 3)
    assert paired.class_names == tuple(NAMES)
    assert by_name(paired) == expected()
    # And of one in another order, with a class that the set does not have.
    others = ("tie", "dog", "person", "car")
    if data.coco is not None or tool in ("label_studio_yolo", "cvat_yolo"):
        assert by_name(evaluation.paired(data, others, 4)) == expected()


def test_folders_missing_from_an_archive_are_dropped_from_paths(pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = label_tools.cvat_yolo(tmp_path / "set", pictures, NAMES)
    # Another data set's, of the working folder: Darknet would take it.
    (tmp_path / "data").mkdir()
    (tmp_path / "data/train.txt").write_text("data/none.jpg\n")
    data = read(arguments)
    assert by_name(data) == expected()
    for note in data.notes:
        said(note)


def test_lists_from_windows_and_other_machines_are_read(pictures, tmp_path):
    label_tools.cvat_yolo(tmp_path / "set", pictures, NAMES)
    text = (tmp_path / "set/train.txt").read_text()
    (tmp_path / "set/train.txt").write_text(text.replace("/", "\\"))
    data = read(["--data", tmp_path / "set/obj.data"])
    assert by_name(data) == expected()
    for note in data.notes:
        said(note)
    (tmp_path / "set/train.txt").write_text(text.replace("data/obj", "/home/me/darknet/data/obj"))
    data = read(["--data", tmp_path / "set/obj.data"])
    assert by_name(data) == expected()
    for note in data.notes:
        said(note)


def test_first_value_of_a_repeated_key_counts(pictures, tmp_path):
    label_tools.hank_ai(tmp_path / "set", pictures, NAMES)
    with (tmp_path / "set/my.data").open("a") as file:
        file.write("valid = other.txt\n")
    data = read(["--data", tmp_path / "set/my.data"])
    assert by_name(data) == expected()
    for note in data.notes:
        said(note)


def test_an_image_listed_twice_is_noted(pictures, tmp_path):
    label_tools.hank_ai(tmp_path / "set", pictures, NAMES)
    path = tmp_path / "set/valid.txt"
    path.write_text(path.read_text() + path.read_text().splitlines()[0] + "\n")
    data = read(["--data", tmp_path / "set/my.data"])
    assert len(data.images) == 5
    for note in data.notes:
        said(note)


@pytest.mark.parametrize("ending", [".webp", ".tif", ".jfif", ".gif", ".avif", ".JPeG", ".jp2", ""])
def test_labels_are_read_for_any_image_ending_and_folder(ending, tmp_path):
    for images, labels in (
        ("beside", "beside"),
        ("images", "labels"),
        ("images/val", "labels/val"),
        ("JPEGImages", "JPEGImages"),
        ("JPEGImages", "labels"),
        ("pictures", "labels"),
        ("pictures", "pictures/labels"),
    ):
        place = tmp_path / f"{images}-{labels}".replace("/", "-") / "x"
        (place / images).mkdir(parents=True)
        (place / labels).mkdir(parents=True, exist_ok=True)
        (place / images / f"a{ending}").write_bytes(b"RIFF")
        (place / labels / "a.txt").write_text("0 .5 .5 .2 .2\n")
        assert evaluation.find_labels(place / images / f"a{ending}") == place / labels / "a.txt"
    assert evaluation.find_labels(tmp_path / f"none{ending}") is None


def test_like_decides_between_two_label_folders(tmp_path):
    for folder in ("JPEGImages", "labels"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.txt").write_text("")
    picture = tmp_path / "JPEGImages/a.jpg"
    assert evaluation.find_labels(picture) == tmp_path / "labels/a.txt"
    assert evaluation.find_labels(picture, "hank-ai") == tmp_path / "JPEGImages/a.txt"


@pytest.mark.parametrize(
    ("line", "boxes"),
    [
        ("1 .5 .5 .2 .2 0 .25 .25 .1 .1", [(1, 0.5, 0.5, 0.2, 0.2), (0, 0.25, 0.25, 0.1, 0.1)]),
        ("1 .1 .2 .5 .2 .3 .8", [(1, 0.3, 0.5, 0.4, 0.6)]),  # an outline of three points
        ("1.0 .5 .5 .2 .2", [(1, 0.5, 0.5, 0.2, 0.2)]),
        ("1 1.01 .5 .2 .2", [(1, 1.01, 0.5, 0.2, 0.2)]),
    ],
)
def test_valid_label_lines_are_read(line, boxes, tmp_path):
    (tmp_path / "a.txt").write_text(line + "\n")
    (tmp_path / "a.jpg").write_bytes(b"")
    (tmp_path / "data.txt").write_text(f"{tmp_path}/a.jpg\n")
    (tmp_path / "obj.data").write_text("classes=2\nvalid=data.txt\n")
    truths = read(["--data", tmp_path / "obj.data"]).images[0].truths
    assert truths.classes.tolist() == [int(box[0]) for box in boxes]
    np.testing.assert_allclose(truths.boxes, [box[1:] for box in boxes], atol=1e-6)


@pytest.mark.parametrize(
    "line",
    [
        "1 230 345 154 288",
        "1 .5 .5 .2 .2 .9",
        "1 .5 .5 -.2 .2",
        "1.5 .5 .5 .2 .2",
        "1 .5 .5 .2 .2 7 .5 .5 .2 .2",
    ],
)
def test_invalid_label_lines_are_refused(line, tmp_path):
    (tmp_path / "a.txt").write_text(line + "\n")
    (tmp_path / "a.jpg").write_bytes(b"")
    (tmp_path / "data.txt").write_text(f"{tmp_path}/a.jpg\n")
    (tmp_path / "obj.data").write_text("classes=2\nvalid=data.txt\n")
    with refused(YolotfError):
        read(["--data", tmp_path / "obj.data"])


def test_data_set_without_labels_is_refused(pictures, tmp_path):
    arguments = label_tools.hank_ai(tmp_path / "set", pictures, NAMES)
    for label_file in (tmp_path / "set/JPEGImages").glob("*.txt"):
        label_file.write_text("")
    data = read(arguments)
    with refused(YolotfError):
        evaluation.evaluate("yolov4-tiny", "none", data, class_names=COCO_NAMES)
    for label_file in (tmp_path / "set/JPEGImages").glob("*.txt"):
        label_file.unlink()
    with refused(YolotfError):
        read(arguments)


# COCO's files.


def instances(folder, pictures, change=lambda content: None):
    arguments = label_tools.cvat_coco(folder, pictures, NAMES)
    path = Path(arguments[1])
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return arguments


def without(kind, *keys):
    def change(content):
        for entry in content[kind]:
            for key in keys:
                del entry[key]

    return change


def each(kind, **values):
    def change(content):
        for number, entry in enumerate(content[kind]):
            entry.update({key: value(number) for key, value in values.items()})

    return change


def names_as_text(content):
    for entry in content["images"]:
        entry["id"] = f"img{entry['id']}"
    for entry in content["annotations"]:
        entry["image_id"] = f"img{entry['image_id']}"


@pytest.mark.parametrize(
    ("change", "noted"),
    [
        (without("annotations", "iscrowd", "area", "id"), False),
        (each("annotations", id=lambda number: number), False),
        (each("annotations", id=lambda number: str(number)), False),
        (each("annotations", category_id=lambda number: str([1, 3, 2, 3, 3][number])), False),
        (names_as_text, True),
        (without("images", "width", "height"), True),
        (
            lambda content: content["annotations"].append(
                {"id": 9, "image_id": 77, "category_id": 1, "bbox": [1, 2, 3, 4]}
            ),
            True,
        ),
    ],
    ids=[
        "annotations without crowd, area and id",
        "ids from 0",
        "ids as text",
        "categories as text",
        "image ids as text",
        "images without sizes",
        "an annotation of no image",
    ],
)
def test_what_tools_leave_out_is_filled_in(change, noted, pictures, tmp_path):
    pytest.importorskip("pycocotools")
    data = read(instances(tmp_path / "set", pictures, change))
    assert by_name(data) == expected()
    assert bool(data.notes) == noted
    for note in data.notes:
        said(note)
    assert [annotation["id"] for annotation in data.coco["annotations"]] == [1, 2, 3, 4, 5]
    assert evaluation.coco_numbers(perfect(data), data)["AP"] == pytest.approx(1)


def perfect(data, size=(64, 48)):
    width, height = size
    detected = []
    for annotated in data.images:
        x, y, w, h = annotated.truths.boxes.T
        corners = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 1)
        boxes = corners * [width, height, width, height]
        scores = np.linspace(0.9, 0.5, len(boxes))
        detected.append((Detections.of(boxes, scores, annotated.truths.classes), size))
    return detected


@pytest.mark.parametrize(
    "change",
    [
        each("annotations", bbox=lambda number: []),
        each("annotations", bbox=lambda number: [1, 2, float("nan"), 4]),
        each("annotations", bbox=lambda number: [1, 2, -3, 4]),
        each("annotations", category_id=lambda number: 77),
        each("categories", id=lambda number: 1),
        each("categories", id=lambda number: "one"),
        each("images", id=lambda number: 1),
        each("images", file_name=lambda number: None),
        each("images", id=lambda number: [number]),
        lambda content: content.update(images=[3]),
        lambda content: content.update(annotations={}),
    ],
)
def test_invalid_annotations_are_refused_before_detection(change, pictures, tmp_path):
    arguments = instances(tmp_path / "set", pictures, change)
    with refused(YolotfError):
        read(arguments)


def test_pairing_categories_by_number_is_noted(pictures, tmp_path):
    data = read(instances(tmp_path / "set", pictures))
    paired = evaluation.paired(data, (), 3)
    said(paired.notes[-1])
    with refused(YolotfError):
        evaluation.paired(data, (), 5)
    with refused(YolotfError):
        evaluation.paired(data, ("cat", "dog", "cow"), 3)
    paired = evaluation.paired(data, ("car", "person"), 2)
    said(paired.notes[0])
    assert paired.categories == (2, 1)
    # An 80-class network of no names, and categories that are COCO's.
    paired = evaluation.paired(data, (), 80)
    assert by_name(paired) == expected()
    assert paired.class_names == COCO_NAMES
    said(paired.notes[0])


def test_new_coco_names_match_darknets_old_names(pictures, tmp_path):
    def change(content):
        for entry, name in zip(content["categories"], ("tv", "Dining_Table", "couch"), strict=True):
            entry["name"] = name

    data = evaluation.paired(read(instances(tmp_path / "set", pictures, change)), COCO_NAMES, 80)
    names = {data.class_names[k] for annotated in data.images for k in annotated.truths.classes}
    assert names == {"tvmonitor", "diningtable", "sofa"}


def test_classes_are_paired_by_name(pictures, tmp_path):
    data = read(label_tools.label_studio_yolo(tmp_path / "set", pictures, NAMES))
    assert data.class_names == ("car", "person", "tie")
    paired = evaluation.paired(data, NAMES, 3)
    said(paired.notes[-1])
    other = evaluation.paired(data, ("auto", "mensch", "krawatte"), 3)
    said(other.notes[-1])
    with refused(YolotfError):
        evaluation.paired(data, ("a", "b"), 2)


def test_names_of_more_classes_than_there_are_pair_by_number(pictures, tmp_path):
    folder = tmp_path / "set"
    read(label_tools.label_studio_yolo(folder, pictures, NAMES))
    (folder / "two.names").write_text("person\ncar\nspare\n")
    (folder / "a.data").write_text("classes = 2\nvalid = valid.txt\nnames = two.names\n")
    image = next(folder.rglob("*.png"))
    (folder / "valid.txt").write_text(f"{image}\n")
    label_path = evaluation.find_labels(image)
    label_path.write_text("1 .5 .5 .2 .2\n")
    data = evaluation.read_darknet(folder / "a.data")
    assert (data.classes, len(data.class_names)) == (2, 3)
    paired = evaluation.paired(data, ("person", "car"), 2)
    assert paired.class_names == ("person", "car")
    assert paired.images[0].truths.classes.tolist() == [1]
    other = evaluation.paired(data, ("person", "auto"), 2)
    said(other.notes[-1])


@pytest.mark.parametrize("scaled", [False, True])
def test_images_rotated_by_one_tool_are_noted(scaled, pictures, tmp_path):
    pytest.importorskip("pycocotools")

    def change(content):
        for image in content["images"]:
            image.update(width=48, height=64)
        if scaled:  # percentages of a picture of that size, as Label Studio keeps them
            for entry in content["annotations"]:
                x, y, w, h = entry["bbox"]
                entry["bbox"] = [x * 48 / 64, y * 64 / 48, w * 48 / 64, h * 64 / 48]

    data = evaluation.paired(read(instances(tmp_path / "set", pictures, change)), NAMES, 3)
    straight = evaluation.paired(read(instances(tmp_path / "other", pictures)), NAMES, 3)
    if not scaled:  # beyond the size that is given, so that they can be no part of it
        for content in (data, straight):
            assert (
                max(
                    annotation["bbox"][0] + annotation["bbox"][2]
                    for annotation in content.coco["annotations"]
                )
                == 50
            )
    detected = perfect(straight)
    fitted, notes = evaluation.fitted_to_images(data, [size for _, size in detected])
    said(notes[0])
    assert evaluation.coco_numbers(detected, fitted)["AP"] > (0.99 if scaled else 0.6)
    if scaled:
        assert by_name(fitted) == expected()
    score = evaluation.score(detected, fitted.images, NAMES)
    assert score.mean_ap > (0.99 if scaled else 0.5)


# What the command does.


@pytest.fixture
def photographs(official_tiny, tmp_path):
    """Two photographs with labels, some of them right, in three classes of COCO's."""
    rows = {
        "bus": [(0, 53, 389, 167, 525), (0, 212, 407, 138, 442), (1, 20, 220, 780, 520)],
        "zidane": [(0, 745, 6, 370, 704), (2, 981, 308, 54, 113), (2, 430, 430, 90, 280)],
    }
    labelled = []
    for name, boxes in rows.items():
        path = tmp_path / "source" / f"{name}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(getattr(official_tiny, name).read_bytes())
        labelled.append(label_tools.Picture(path, boxes))
    return labelled


PHOTOGRAPHED = ["person", "bus", "tie"]


def evaluated(capsys, official_tiny, arguments, *more):
    network = ["--cfg", str(official_tiny.cfg), "--weights", str(official_tiny.weights)]
    code = main(["eval", *arguments, *network, "--json", *more])
    printed = capsys.readouterr()
    return code, json.loads(printed.out) if printed.out else None, printed.err


@pytest.mark.slow
@pytest.mark.parametrize("tool", label_tools.TOOLS)
def test_every_tools_export_has_the_same_score(tool, photographs, official_tiny, tmp_path, capsys):
    pytest.importorskip("pycocotools")
    arguments = label_tools.TOOLS[tool](tmp_path / "set", photographs, PHOTOGRAPHED)
    code, result, printed = evaluated(
        capsys, official_tiny, arguments, "--names", str(official_tiny.names)
    )
    assert code == 0, printed
    assert (result["pictures"], result["truths"]) == (2, 6)
    assert result["tp"] + result["fn"] == 6
    aps = {counts["name"]: counts["ap"] for counts in result["classes"] if counts["truths"]}
    assert aps == pytest.approx(by_hand(photographs, official_tiny), abs=1e-6)
    assert 0.5 < sum(aps.values()) / 3 < 1.01
    if arguments[0] == "--coco":
        assert result["coco"] == pytest.approx(
            repaired_numbers(arguments[1], official_tiny), abs=1e-6
        )


def by_hand(photographs, official_tiny):
    """The score of the same labels, passed as arrays instead of files."""
    labelled = []
    for photograph in photographs:
        width, height = photograph.size
        numbers = [COCO_NAMES.index(PHOTOGRAPHED[row[0]]) for row in photograph.rows]
        x, y, w, h = np.array([row[1:] for row in photograph.rows]).T
        boxes = np.stack([(x + w / 2) / width, (y + h / 2) / height, w / width, h / height], 1)
        truths = evaluation.Truths(np.array(numbers, np.int64), boxes.astype(np.float32))
        nothing = evaluation.Truths(np.zeros(0, np.int64), np.zeros((0, 4), np.float32))
        labelled.append(evaluation.AnnotatedImage(photograph.path, truths, nothing))
    data = evaluation.DataSet("by hand", tuple(labelled), COCO_NAMES, 80)
    result = evaluation.evaluate(official_tiny.cfg, official_tiny.weights, data)
    return {counts.name: counts.ap for counts in result.classes if counts.truths}


def repaired_numbers(path, official_tiny):
    """pycocotools' own call on the file after annotations are numbered from 1."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    from yolotf.inference import Detector

    content = json.loads(Path(path).read_text())
    for number, entry in enumerate(content["annotations"], 1):
        entry["id"] = number
    used = {entry["category_id"] for entry in content["annotations"]}
    categories = {
        category["name"]: category["id"]
        for category in content["categories"]
        if category["id"] in used
    }
    detector = Detector(
        official_tiny.cfg,
        official_tiny.weights,
        class_names=official_tiny.names,
        score_threshold=0.001,
        max_boxes=2000,
    )
    results = []
    for image in content["images"]:
        file = next(Path(path).parent.parent.rglob(Path(image["file_name"]).name))
        detections = detector(file)
        boxes = np.clip(detections.xyxy, 0, [image["width"], image["height"]] * 2).astype(float)
        for (a, b, c, d), score, name in zip(
            boxes, detections.scores, detections.labels, strict=True
        ):
            if name in categories:
                results.append(
                    {
                        "image_id": image["id"],
                        "category_id": categories[name],
                        "bbox": [a, b, c - a, d - b],
                        "score": float(score),
                    }
                )
    with redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {"info": {}, **content}
        truth.createIndex()
        run = COCOeval(truth, truth.loadRes(results), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return dict(zip(evaluation.COCO_NUMBERS, run.stats.tolist(), strict=True))


def test_pictures_that_cannot_be_read_count_as_empty(photographs, official_tiny, tmp_path, capsys):
    arguments = label_tools.hank_ai(tmp_path / "set", photographs, PHOTOGRAPHED)
    images = tmp_path / "set/JPEGImages"
    names = ["--names", str(official_tiny.names)]
    _, whole, _ = evaluated(capsys, official_tiny, arguments, *names)
    (images / "bus.jpg").unlink()
    code, result, printed = evaluated(capsys, official_tiny, arguments, *names)
    assert code == 1
    said(printed)
    assert result["truths"] == whole["truths"] == 6
    assert result["fn"] > whole["fn"]
    assert [image["path"] for image in result["unread"]] == [str(images / "bus.jpg")]
    (images / "bus.jpg").write_text("no picture")
    code, result, _ = evaluated(capsys, official_tiny, arguments, *names)
    assert (code, result["fn"]) == (1, result["truths"] - result["tp"])
    (images / "bus.jpg").unlink()
    (images / "zidane.jpg").unlink()
    code, result, printed = evaluated(capsys, official_tiny, arguments, *names)
    assert (code, result) == (2, None)
    said(printed)


def test_reading_needs_no_tensorflow(pictures, tmp_path, monkeypatch):
    arguments = label_tools.label_studio_coco(tmp_path / "set", pictures, NAMES)
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    assert by_name(read(arguments)) == expected()
