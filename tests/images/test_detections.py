"""`Detections`: arrays, filters, label files, JSON and drawings."""

import errno
import json
import os
import subprocess
import sys
import types
import warnings

import numpy as np
import pytest
from PIL import Image

from support import messages
from support.messages import refused
from yolotf.errors import YolotfError
from yolotf.images import fonts
from yolotf.images.detections import Detections
from yolotf.images.drawing import class_colour
from yolotf.images.read import open_picture

NAMES = ("person", "bicycle", "car")


def two_detections():
    return Detections.of(
        [[10, 20, 60, 90], [30.5, -8, 130, 50]], [0.9, 0.4], [2, 7], class_names=NAMES
    )


def test_detections_hold_arrays_and_a_label_each():
    detections = two_detections()
    assert len(detections) == 2
    assert (detections.xyxy.shape, detections.xyxy.dtype) == ((2, 4), np.float32)
    assert (detections.scores.dtype, detections.classes.dtype) == (np.float32, np.int64)
    assert detections.labels == ("car", "class 7")
    first, second = detections
    assert (first.name, first.class_id, first.xyxy) == ("car", 2, (10, 20, 60, 90))
    assert second.score == pytest.approx(0.4)
    assert str(detections).splitlines()[0] == "car      0.90  (10, 20)-(60, 90)"


def three_detections():
    return Detections.of(
        [[10, 20, 60, 90], [30.5, -8, 130, 50], [0, 0, 5, 5]], [0.9, 0.4, 0.3], [2, 7, 2], NAMES
    )


def test_index_gives_one_detection():
    detections = three_detections()
    assert detections[0] == next(iter(detections))
    assert detections[-1].score == pytest.approx(0.3)
    assert detections[np.int64(1)].name == "class 7"
    with pytest.raises(IndexError):
        detections[3]


@pytest.mark.parametrize(
    ("index", "scores"),
    [
        (slice(1, None), [0.4, 0.3]),
        (slice(None, None, -1), [0.3, 0.4, 0.9]),
        ([2, 0], [0.3, 0.9]),
        ([True, False, True], [0.9, 0.3]),
        (np.array([False] * 3), []),
        ([], []),
    ],
)
def test_slices_masks_and_indices_select(index, scores):
    if isinstance(index, list) and not index:
        index = np.array(index, int)
    selected = three_detections()[index]
    assert isinstance(selected, Detections)
    np.testing.assert_allclose(selected.scores, scores, rtol=1e-6)
    assert len(selected.labels) == len(selected.xyxy) == len(selected.classes) == len(scores)


def test_mask_of_another_length_is_refused():
    with pytest.raises(IndexError):
        three_detections()[np.array([True, False])]


def test_filter_by_score_and_class():
    detections = three_detections()
    assert detections.filter(score=0.4 - 1e-6).classes.tolist() == [2, 7]
    assert detections.filter(classes="car").scores.tolist() == detections[[0, 2]].scores.tolist()
    assert detections.filter(classes=[7, "car"], score=0.5).labels == ("car",)
    assert len(detections.filter(classes=0)) == 0
    assert len(detections.filter()) == 3


def test_darknet_labels_are_relative_and_cut_at_the_edge():
    lines = three_detections().to_yolo((100, 120)).splitlines()
    assert lines[0] == "2 0.291667 0.550000 0.416667 0.700000"
    number, x, y, width, height = lines[1].split()
    assert (number, float(y), float(height)) == ("7", 0.25, 0.5)
    assert float(x) + float(width) / 2 == pytest.approx(1, abs=1e-6)
    assert Detections.of([[-9, 0, -2, 5]], [1], [0]).to_yolo((100, 120)) == ""


def test_results_for_coco_have_left_top_width_height():
    results = three_detections().to_coco(42, category_ids={2: 3, 7: 90})
    assert results[0] == {
        "image_id": 42,
        "category_id": 3,
        "bbox": [10, 20, 50, 70],
        "score": pytest.approx(0.9),
    }
    assert results[1]["bbox"] == [30.5, -8, 99.5, 58]
    assert three_detections().to_coco("a", (100, 120))[1]["bbox"] == [30.5, 0, 89.5, 50]
    assert [result["category_id"] for result in three_detections().to_coco(1)] == [3, 8, 3]
    json.dumps(results)


def test_to_dict_survives_json():
    decoded = json.loads(json.dumps(two_detections().to_dict()))
    assert [detection["name"] for detection in decoded["detections"]] == ["car", "class 7"]
    assert decoded["detections"][1]["xyxy"] == [30.5, -8, 130, 50]
    assert decoded["detections"][1]["class"] == 7


def test_json_has_the_digits_of_float32():
    detections = Detections.of([[745.3728, 6.44226, 1115.2073, 710.16425]], [0.7482339], [0])
    answer = json.loads(json.dumps(detections.to_dict()))["detections"][0]
    assert answer["xyxy"] == [745.3728, 6.44226, 1115.2073, 710.16425]
    assert answer["score"] == 0.7482339
    np.testing.assert_array_equal(np.float32(answer["xyxy"]), detections.xyxy[0])
    (result,) = detections.to_coco(1, (700, 1280))
    assert result["score"] == 0.7482339
    assert max(len(str(number)) for number in result["bbox"]) <= 9
    np.testing.assert_allclose(result["bbox"], [745.3728, 6.44226, 369.8345, 693.55774], rtol=1e-6)


def test_no_detections_are_drawn_and_printed_as_none():
    empty = Detections.of([], [], [])
    assert empty.xyxy.shape == (0, 4)
    assert list(empty) == []
    assert empty.to_dict() == {"detections": []}
    assert str(empty) == "nothing found"
    picture = np.full((20, 30, 3), 7, np.uint8)
    np.testing.assert_array_equal(empty.draw(picture), picture)


def test_arrays_of_different_lengths_are_refused():
    with refused(ValueError):
        Detections.of([[0, 0, 1, 1]], [0.5, 0.4], [1])


def test_drawing_marks_the_box_and_leaves_the_rest(tmp_path):
    picture = np.full((300, 400, 3), 128, np.uint8)
    detections = Detections.of([[100, 100, 200, 250]], [0.75], [1], NAMES)
    drawn = np.asarray(detections.draw(picture, tmp_path / "out.png"))
    colour = class_colour(1)
    for row, column in ((150, 100), (150, 200), (250, 150)):
        assert tuple(drawn[row, column]) == colour
    changed = np.any(drawn != picture, axis=2)
    rows, columns = np.nonzero(changed)
    assert rows.max() == 250
    assert columns.min() == 100
    # The label stands on the box, with letters in it.
    assert 70 < rows.min() < 95
    label = drawn[rows.min() : 100, 100:150].reshape(-1, 3)
    assert len(np.unique(label, axis=0)) > 2
    assert not changed[110:240, 110:190].any()
    assert (picture == 128).all()
    np.testing.assert_array_equal(Image.open(tmp_path / "out.png"), drawn)


@pytest.mark.parametrize(
    "box",
    [
        (-50, -50, 500, 400),
        (390, 290, 600, 700),
        (-30, -30, -10, -10),
        (20, 0, 30, 3),
        (350, 298, 399, 299),
    ],
)
def test_boxes_beyond_the_edge_are_drawn_with_their_label_inside(box):
    picture = np.full((300, 400, 3), 128, np.uint8)
    drawn = np.asarray(Detections.of([box], [0.5], [0], NAMES).draw(picture))
    filled = (drawn == class_colour(0)).all(2)
    # Most of a label's area, 0.05 of the smaller side high, is of the class colour.
    assert filled.sum() > 300


def test_labels_of_boxes_at_one_place_do_not_cover_each_other():
    picture = np.zeros((400, 400, 3), np.uint8)
    boxes, scores, classes = [[100, 100, 300, 300]] * 2, [0.9, 0.5], [0, 1]
    drawn = np.asarray(Detections.of(boxes, scores, classes, NAMES).draw(picture))
    for number in (0, 1):
        alone = Detections.of(boxes[:1], [scores[number]], [classes[number]], NAMES)
        area = (np.asarray(alone.draw(picture)) == class_colour(number)).all(2).sum()
        line = 2 * 4 * 200
        assert (drawn == class_colour(number)).all(2).sum() > area - line > 300


def test_letters_and_lines_grow_with_the_picture():
    heights = []
    for size in (200, 800):
        picture = np.zeros((size, size, 3), np.uint8)
        box = [[size // 4, size // 2, size // 2, size - 20]]
        drawn = np.asarray(Detections.of(box, [0.5], [0], NAMES).draw(picture))
        heights.append(size // 2 - np.nonzero(drawn.any(2))[0].min())
    assert heights[1] > 1.5 * heights[0]


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 1), (20, 30, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_pictures_may_be_arrays(shape, dtype):
    values = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    array = values if dtype == np.uint8 else values.astype(np.float32) / 255
    image = np.asarray(open_picture(array))
    np.testing.assert_array_equal(image, values.reshape(image.shape))


def test_arrays_of_other_shapes_are_refused():
    with refused(ValueError):
        open_picture(np.zeros((3, 20, 30), np.uint8))


def test_photographs_are_turned_upright(tmp_path):
    image = Image.fromarray(np.arange(60, dtype=np.uint8).reshape(6, 10))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    image.save(tmp_path / "turned.png", exif=exif)
    for source in (tmp_path / "turned.png", str(tmp_path / "turned.png")):
        np.testing.assert_array_equal(open_picture(source), np.rot90(np.asarray(image), -1))


def test_file_that_is_no_image_is_an_os_error(tmp_path):
    (tmp_path / "a.jpg").write_text("no picture")
    with refused(OSError):
        open_picture(tmp_path / "a.jpg")


def test_neighbouring_classes_have_colours_that_differ():
    colours = np.array([class_colour(number) for number in range(80)], int)
    assert len(np.unique(colours, axis=0)) > 60
    assert np.abs(np.diff(colours, axis=0)).max(1).min() > 60


def test_detections_do_not_need_tensorflow():
    code = (
        "import sys, numpy as np; from yolotf.detections import Detections; "
        "Detections.of([[1, 2, 3, 4]], [0.5], [0]).draw(np.zeros((9, 9, 3), np.uint8)); "
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def laboratory(colours):
    """CIELAB colours, whose distances match what an eye sees; written from the standard."""
    linear = np.asarray(colours) / 255
    linear = np.where(linear > 0.04045, ((linear + 0.055) / 1.055) ** 2.4, linear / 12.92)
    matrix = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = linear @ np.transpose(matrix) / [0.9505, 1, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def test_eighty_classes_have_colours_an_eye_can_tell_apart():
    places = laboratory([class_colour(number) for number in range(80)])
    distances = np.linalg.norm(places[:, None] - places, axis=2)
    assert distances[~np.eye(80, dtype=bool)].min() > 19
    assert class_colour(81) == class_colour(1)


def labelled(name, **options):
    picture = np.zeros((200, 400, 3), np.uint8)
    detections = Detections.of([[20, 100, 300, 190]], [0.5], [0], [name])
    return np.asarray(detections.draw(picture, **options))


def installed(letters):
    return fonts._path_for(letters, fonts.folders())


@pytest.mark.parametrize("name", ["Straße", "café", "собака", "σκύλος"])
def test_labels_in_any_script_an_installed_font_has(name):
    letters = "".join(sorted({letter for letter in name if not letter.isascii()}))
    with warnings.catch_warnings(record=True) as missing:
        warnings.simplefilter("always")
        font = installed(letters)
    if missing:
        pytest.skip("no installed font has these letters")
    drawn = labelled(name)
    np.testing.assert_array_equal(drawn, labelled(name, font=font))
    other = "".join(chr(ord(letter) ^ 1) for letter in name)
    assert np.any(drawn != labelled(other, font=font))


def test_letters_that_no_font_has_are_warned_of(monkeypatch, tmp_path):
    monkeypatch.setattr(fonts, "folders", lambda: (tmp_path,))
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    with messages.warned(UserWarning, hide=r"(?<=letters ).*?(?=;)"):
        labelled("собака и кошка")
    labelled("dog")


def test_letter_without_a_font_leaves_the_others_theirs():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert installed("собак\U0010fffd") == installed("собак")


def test_broken_font_is_refused(tmp_path):
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    with refused(OSError):
        labelled("dog", font=tmp_path / "broken.ttf")
    with pytest.raises(FileNotFoundError):
        labelled("dog", font=tmp_path / "none.ttf")


def test_lines_have_the_width_asked_for_and_labels_may_be_left_out():
    drawn = labelled("dog", labels=False, line_width=7)
    inside = (drawn == class_colour(0)).all(2)
    assert inside[150, 15:60].sum() == 7
    assert not drawn[:100].any()
    with refused(ValueError):
        labelled("dog", line_width=0)


def test_line_breaks_in_a_name_stay_in_one_line():
    np.testing.assert_array_equal(labelled("big\ndog"), labelled("big dog"))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("edges", [(-np.inf, np.inf), (np.nan, np.nan)])
def test_infinite_sides_are_drawn_from_edge_to_edge(axis, edges):
    box = np.array([100, 80, 200, 120], np.float32)
    box[axis], box[axis + 2] = edges
    picture = np.zeros((200, 400, 3), np.uint8)
    detections = Detections.of([box], [0.5], [0])
    lit = (np.asarray(detections.draw(picture, labels=False)) == class_colour(0)).all(2)
    rows, columns = np.nonzero(lit)
    wanted = (80, 120, 0, 399) if axis == 0 else (0, 199, 100, 200)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == wanted


def test_to_supervision_hands_over_arrays_and_names(monkeypatch):
    module = types.ModuleType("supervision")
    module.Detections = types.SimpleNamespace
    monkeypatch.setitem(sys.modules, "supervision", module)
    theirs = two_detections().to_supervision()
    np.testing.assert_array_equal(theirs.xyxy, two_detections().xyxy)
    np.testing.assert_array_equal(theirs.confidence, two_detections().scores)
    assert theirs.class_id.tolist() == [2, 7]
    assert theirs.data["class_name"].tolist() == ["car", "class 7"]


def test_without_supervision_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with refused(ImportError):
        two_detections().to_supervision()


def test_drawing_never_replaces_its_image_and_other_files_only_with_overwrite(tmp_path):
    picture, other = tmp_path / "a.png", tmp_path / "b.png"
    Image.new("RGB", (40, 30)).save(picture)
    before = picture.read_bytes()
    empty = Detections.of(np.zeros((0, 4)), [], [])
    (tmp_path / "link.png").symlink_to(picture)
    for path in (picture, tmp_path / "link.png"):
        with refused(FileExistsError):
            empty.draw(picture, path)
    other.write_bytes(b"mine")
    with refused(FileExistsError):
        empty.draw(picture, other, overwrite=False)
    assert other.read_bytes() == b"mine"
    empty.draw(picture, other)
    with Image.open(other) as drawing:
        assert drawing.size == (40, 30)
    assert picture.read_bytes() == before
    for name in ("a", "a.xyz", "a.fli"):
        with refused(ValueError):
            empty.draw(picture, tmp_path / name)


def test_box_of_two_classes_is_one_label_line():
    boxes = [[10, 10, 30, 30], [0, 0, 5, 5], [10, 10, 30, 30], [10, 10, 30, 31]]
    detections = Detections.of(boxes, [0.9, 0.8, 0.7, 0.6], [7, 1, 5, 5])
    assert detections.to_yolo((100, 100)).splitlines() == [
        "7 0.200000 0.200000 0.200000 0.200000",
        "1 0.025000 0.025000 0.050000 0.050000",
        "5 0.200000 0.205000 0.200000 0.210000",
    ]
    assert (
        detections.to_yolo((100, 100), scores=True).splitlines()[0].endswith(" 0.200000 0.900000")
    )
    assert Detections.of([], [], []).to_yolo((100, 100)) == ""


def test_filter_refuses_an_unknown_class():
    detections = Detections.of([[0, 0, 4, 4], [1, 1, 5, 5]], [0.9, 0.8], [1, 0], ["cat", "dog"])
    assert detections[detections.scores > 0.85].class_names == ("cat", "dog")
    assert detections.class_names[detections.classes[0]] == "dog"
    assert len(detections.filter(classes="cat")) == len(detections.filter(classes=[0])) == 1
    assert len(detections[:0].filter(classes="cat")) == 0
    with refused(YolotfError):
        detections.filter(classes=["dog", "Cat"])
    with refused(YolotfError):
        detections.filter(classes=2)
    nameless = Detections.of([[0, 0, 4, 4]], [0.9], [1])
    assert len(nameless.filter(classes="class 1")) == len(nameless.filter(classes=1)) == 1
    with refused(YolotfError):
        nameless.filter(classes="dog")


def test_a_font_is_not_larger_than_fonts_are(tmp_path):
    path = tmp_path / "a.ttf"
    with path.open("wb") as file:
        file.truncate((1 << 28) + 1)
    with refused(OSError) as error:
        fonts.font_for("a", 12, path)
    assert error.value.errno == errno.EFBIG


@pytest.mark.parametrize("name", ["fifo", "/dev/zero"])
def test_font_is_a_regular_file(name, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    pixels = np.zeros((20, 20, 3), np.uint8)
    detections = Detections.of([[1, 1, 9, 9]], [0.5], [0], ("cat",))
    with refused(OSError):
        detections.draw(pixels, font=tmp_path / name)
