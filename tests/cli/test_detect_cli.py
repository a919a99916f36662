"""`yolotf detect`: every input answered once, in order, as the `Detector` itself answers."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from support import numpy_loader
from support.cfgs import conv, net, normalized, yolo
from yolotf.cli import commands as cli
from yolotf.darknet import cfg
from yolotf.images import endings
from yolotf.inference import Detector

NETWORK = (
    net(32, 64) + normalized(8, 3, stride=2) + normalized(16, 3, stride=2) + conv(24) + yolo(3)
)
NAMES = ("cat", "dog", "kite")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """The current folder, with the files of a network, and three pictures in `pictures`."""
    monkeypatch.chdir(tmp_path)
    write_network(NETWORK)
    Path("net.names").write_text("\n".join(NAMES) + "\n")
    Path("pictures").mkdir()
    for name, size in (("b.jpg", (90, 60)), ("a.png", (64, 32)), ("c.PNG", (50, 70))):
        picture(size).save(Path("pictures", name))
    return tmp_path


def write_network(text):
    Path("net.cfg").write_text(text)
    Path("net.weights").write_bytes(numpy_loader.random_file(text))


def picture(size, seed=0):
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (5, 7, 3), np.uint8))
    return coarse.resize(size, Image.Resampling.BICUBIC)


def run(*arguments, options=()):
    """The command, for the files here unless `options` name others."""
    files = ["--cfg", "net.cfg", "--weights", "net.weights", "--names", "net.names"]
    return cli.main(["detect", *arguments, *files, *options])


def lines(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def entries(folder):
    return sorted(path.name for path in Path(folder).iterdir())


@pytest.fixture
def detector():
    return Detector("net.cfg", "net.weights", class_names="net.names")


def test_json_is_one_object_a_picture_and_nothing_else(capsys, detector):
    before = entries(".")
    assert run("pictures/b.jpg", "pictures/a.png", "--json") == 0
    said = capsys.readouterr()
    first, second = (json.loads(line) for line in said.out.splitlines())
    for found, path, size in (
        (first, "pictures/b.jpg", (90, 60)),
        (second, "pictures/a.png", (64, 32)),
    ):
        assert (found["path"], found["width"], found["height"]) == (path, *size)
        assert {"detections": found["detections"]} == detector(path).to_dict()
        assert len(found["detections"]) > 0
        assert "drawing" not in found
    assert entries(".") == before, "pictures are drawn only when asked for"
    total = len(first["detections"]) + len(second["detections"])
    assert said.err.startswith(f"2 images, {total} detections, ")
    assert said.err.count("\n") == 1


def test_without_json_drawings_go_to_a_folder_of_their_own(capsys, detector):
    assert run("pictures/b.jpg", "pictures/a.png") == 0
    assert entries("detections") == ["a.png", "b.jpg"]
    found = detector("pictures/a.png")
    expected = np.asarray(found.draw("pictures/a.png"))
    with Image.open("detections/a.png") as drawing:
        np.testing.assert_array_equal(np.asarray(drawing), expected)
    said = capsys.readouterr().out
    assert f"pictures/a.png -> detections/a.png\n{found}\n" in said
    assert any(name in said for name in NAMES)


def test_a_folder_stands_for_its_pictures_by_name(capsys):
    Path("pictures/notes.txt").write_text("no picture")
    Path("pictures/older").mkdir()
    picture((20, 20)).save("pictures/older/d.png")
    assert run("pictures", "--json", "-o", "out") == 0
    found = lines(capsys)
    assert [one["path"] for one in found] == [f"pictures/{n}" for n in ("a.png", "b.jpg", "c.PNG")]
    assert [one["drawing"] for one in found] == [f"out/{n}" for n in ("a.png", "b.jpg", "c.PNG")]
    assert entries("out") == ["a.png", "b.jpg", "c.PNG"]


def test_pictures_are_seen_upright_as_the_library_sees_them(capsys, detector):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    picture((90, 60)).save("turned.jpg", exif=exif)
    assert run("turned.jpg", "--json") == 0
    (found,) = lines(capsys)
    assert (found["width"], found["height"]) == (60, 90)
    assert found["detections"] == detector("turned.jpg").to_dict()["detections"]


def test_what_cannot_be_read_is_reported_and_the_others_go_on(capsys):
    whole = io.BytesIO()
    picture((300, 200)).save(whole, "JPEG")
    Path("cut.jpg").write_bytes(whole.getvalue()[:300])
    Path("text.png").write_text("no picture")
    Path("empty").mkdir()
    inputs = ("pictures/a.png", "missing.jpg", "cut.jpg", "text.png", "empty", "pictures/b.jpg")
    assert run(*inputs, "--json") == 2
    said = capsys.readouterr()
    found = [json.loads(line) for line in said.out.splitlines()]
    assert [one["path"] for one in found] == list(inputs)
    assert ["error" in one for one in found] == [False, True, True, True, True, False]
    assert ["detections" in one for one in found] == [True, False, False, False, False, True]
    note, *complaints, count = said.err.splitlines()
    assert note == "note: 1 of 6 inputs do not exist; the first: missing.jpg"
    assert complaints == [
        f"yolotf: {one['path']}: {one['error']}" for one in found if "error" in one
    ]
    assert complaints[0] == "yolotf: missing.jpg: no such file or directory"
    assert complaints[2] == "yolotf: text.png: a text file, not an image"
    assert complaints[3] == "yolotf: empty: no images or videos in this folder"
    assert count.startswith("2 images, ")
    assert count.endswith(", 4 not read")


def test_a_jpeg_that_is_cut_short_is_read_with_a_note(capsys):
    whole = io.BytesIO()
    picture((300, 200)).save(whole, "JPEG")
    Path("cut.jpg").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    assert run("cut.jpg", "--json") == 0
    said = capsys.readouterr()
    assert said.err.startswith("note: cut.jpg: cut short; read as far as it goes\n")
    (found,) = map(json.loads, said.out.splitlines())
    assert (found["width"], found["height"]) == (300, 200)


def test_what_a_folder_passes_over_is_counted(capsys):
    for name in ("IMG_1.CR2", "IMG_2.cr2", "notes.doc", "a.txt", ".hidden"):
        Path("pictures", name).write_bytes(b"")
    assert run("pictures", "--json") == 0
    assert (
        "note: skipped 3 files in folders, whose extensions are not those of images or videos: "
        "2 .cr2, 1 .doc\n"
    ) in capsys.readouterr().err
    Path("pictures/IMG_3.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    assert run("pictures", "--json") == 2
    assert "yolotf: pictures/IMG_3.HEIC: " in capsys.readouterr().err


def test_frames_have_the_seconds_of_their_time_stamps(capsys):
    frames = [Image.new("RGB", (64, 48), (value, 90, 90)) for value in (10, 90, 170, 250)]
    # OpenCV reads an animated GIF as a video, in which every frame has its own length.
    Path("clip.mkv").touch()
    frames[0].save(
        "clip.mkv", "GIF", save_all=True, append_images=frames[1:], duration=[100, 500, 100, 300]
    )
    assert run("clip.mkv", "--json", "--batch", "3") == 0
    assert [one["seconds"] for one in lines(capsys)] == pytest.approx([0, 0.1, 0.6, 0.7])


def test_file_names_that_are_no_text_do_not_stop_the_others(capsys, tmp_path):
    odd = os.fsdecode(b"caf\xe9.png")
    picture((40, 40)).save(odd)
    assert run(odd, "pictures/a.png") == 0
    assert "caf\\xe9.png -> detections/caf\\xe9.png\n" in capsys.readouterr().out


def test_thresholds_are_those_given(capsys):
    counts = {}
    for options in ((), ("--score", "0.3"), ("--iou", "0.1"), ("--iou", "0.95")):
        assert run("pictures/b.jpg", "--json", *options) == 0
        (found,) = lines(capsys)
        counts[options] = len(found["detections"])
        if "--score" in options:
            assert all(one["score"] >= 0.3 for one in found["detections"])
    default, scored, strict, loose = counts.values()
    assert 0 < scored < default
    assert strict < default < loose


def test_class_count_and_size_replace_those_of_the_cfg(capsys):
    trained = cfg.parse_cfg(NETWORK).with_classes(5).resized((64, 96))
    Path("net.weights").write_bytes(numpy_loader.random_file(trained.to_cfg()))
    Path("net.names").write_text("a\nb\nc\nd\ne\n")
    assert run("pictures/b.jpg", "--json", "--classes", "5", "--size", "96x64") == 0
    (found,) = lines(capsys)
    expected = Detector(trained, "net.weights", class_names="net.names")("pictures/b.jpg")
    assert found["detections"] == expected.to_dict()["detections"]


def test_drawings_replace_no_input_and_no_other_drawing(capsys):
    Path("more").mkdir()
    picture((30, 30), seed=1).save("more/a.png")
    picture((30, 30), seed=2).save("more/a.gif")
    before = {path: path.read_bytes() for path in Path().glob("*/a.*")}
    assert run("pictures/a.png", "more/a.png", "more/a.gif", "-o", "pictures", "--json") == 0
    drawings = [one["drawing"] for one in lines(capsys)]
    assert drawings == ["pictures/a-2.png", "pictures/a-3.png", "pictures/a-4.png"]
    for path, content in before.items():
        assert path.read_bytes() == content
    with Image.open("pictures/a-3.png") as second:
        assert second.size == (30, 30)


def test_a_grey_network_takes_coloured_pictures_and_they_stay_coloured(capsys):
    write_network(NETWORK.replace("channels=3", "channels=1"))
    assert run("pictures/a.png", "--json", "-o", "out") == 0
    (found,) = lines(capsys)
    grey = np.asarray(Image.open("pictures/a.png").convert("L"))
    expected = Detector("net.cfg", "net.weights", class_names="net.names")(grey)
    assert found["detections"] == expected.to_dict()["detections"]
    with Image.open("out/a.png") as drawing:
        assert drawing.mode == "RGB"
        assert np.ptp(np.asarray(drawing).astype(int), axis=2).max() > 50


def test_boxes_without_end_are_still_json(capsys):
    # exp(w) of the first anchor is infinite, in float32.
    content = bytearray(Path("net.weights").read_bytes())
    biases = len(content) - 4 * (24 * 16 + 24)
    for anchor in range(3):
        place = biases + 4 * (8 * anchor + 2)
        content[place : place + 4] = np.float32(1e4).tobytes()
    Path("net.weights").write_bytes(content)
    assert run("pictures/a.png", "--json") == 0
    said = capsys.readouterr().out

    def refuse(word):
        raise AssertionError(word)

    found = json.loads(said, parse_constant=refuse)
    assert found["detections"]
    # They reach from edge to edge.
    width = found["width"]
    assert any(one["xyxy"][0::2] == [0, width] for one in found["detections"])


# Videos.


@pytest.fixture
def video():
    """Twelve frames of 80x48, 5 a second; and the frames as OpenCV reads them back."""
    writer = cv2.VideoWriter("clip.avi", cv2.VideoWriter.fourcc(*"MJPG"), 5.0, (80, 48))
    for number in range(12):
        writer.write(np.asarray(picture((80, 48), seed=number))[..., ::-1])
    writer.release()
    return read_video("clip.avi")


def read_video(path):
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (read := capture.read())[0]:
        frames.append(np.ascontiguousarray(read[1][..., ::-1]))
    capture.release()
    return frames


@pytest.mark.slow
def test_a_video_is_one_line_a_frame_and_one_drawing(capsys, video, detector):
    assert len(video) == 12
    assert run("clip.avi", "pictures/a.png", "--json", "-o", "out") == 0
    *frames, still = lines(capsys)
    assert still["path"] == "pictures/a.png"
    assert len(frames) == 12
    for number, (found, frame) in enumerate(zip(frames, video, strict=True)):
        assert (found["path"], found["frame"]) == ("clip.avi", number)
        assert found["seconds"] == pytest.approx(number / 5)
        assert (found["width"], found["height"]) == (80, 48)
        assert found["drawing"] == "out/clip.mp4"
        assert found["detections"] == detector(frame).to_dict()["detections"]
    drawn = read_video("out/clip.mp4")
    assert [one.shape for one in drawn] == [(48, 80, 3)] * 12
    # Twelve frames of noise squeezed into MPEG-4: near its own drawing, far from the others.
    drawings = [np.asarray(detector(one).draw(one), int) for one in video]
    distances = [[np.abs(one - other).mean() for other in drawings] for one in drawn]
    assert np.argmin(distances, axis=1).tolist() == list(range(12))


def test_a_video_in_words_names_its_frames(capsys, video):
    assert run("clip.avi") == 0
    said = capsys.readouterr()
    assert said.out.startswith("clip.avi frame 0 -> detections/clip.mp4\n")
    assert "\nclip.avi frame 11\n" in said.out
    assert said.err.startswith("12 images, ")


def test_a_video_without_frames_is_reported(capsys):
    Path("broken.mp4").write_bytes(b"\0" * 1000)
    assert run("broken.mp4", "missing.mp4", "pictures/a.png", "--json") == 2
    found = lines(capsys)
    assert found[0] == {"path": "broken.mp4", "error": "OpenCV finds no frames in it"}
    assert found[1] == {"path": "missing.mp4", "error": "no such file or directory"}
    assert "detections" in found[2]


def test_without_opencv_a_video_names_the_extra_and_pictures_go_on(capsys, video, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert run("clip.avi", "pictures/a.png", "--json") == 2
    first, second = lines(capsys)
    assert first["error"] == 'videos need OpenCV; pip install "yolotf[video]"'
    assert "detections" in second


# The terminal.


def test_the_bar_is_on_stderr_and_the_answers_are_not(capsys, terminal):
    with terminal() as shown:
        assert run("pictures", "--json") == 0
    assert "0/3" in shown.getvalue()
    assert "3/3" in shown.getvalue()
    assert "path" not in shown.getvalue()
    assert "3 images, " in shown.getvalue()
    assert len(lines(capsys)) == 3


def test_the_bar_grows_by_the_frames_of_a_video(video, terminal):
    with terminal() as shown:
        assert run("clip.avi", "pictures/a.png", "--json") == 0
    assert "14/14" in shown.getvalue()


@pytest.mark.slow
def test_a_reader_that_has_seen_enough_ends_it_quietly():
    command = [sys.executable, "-m", "yolotf.cli", "detect", *["pictures/a.png"] * 500, "--json"]
    command += ["--cfg", "net.cfg", "--weights", "net.weights"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert json.loads(process.stdout.readline())["path"] == "pictures/a.png"
        process.stdout.close()
        said = process.stderr.read().decode()
    assert process.returncode == 0
    assert "Traceback" not in said
    assert "BrokenPipe" not in said


# Usage.


def test_weights_of_another_network_are_exit_code_1(capsys):
    content = Path("net.weights").read_bytes()
    Path("net.weights").write_bytes(content + bytes(400))
    assert run("pictures/a.png", "--json") == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("yolotf: net.weights: ")
    assert "400 bytes" in said.err


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--score", "1.5"), "score_threshold=1.5"),
        (("--iou", "-1"), "iou_threshold=-1"),
        (("-o", "net.cfg"), "net.cfg: is a file; drawings are written into a folder"),
        (("--names", "one.names"), "1 name for the 3 classes"),
        (("--names", "no.names"), "no.names: no such file or directory"),
        (("--weights", "no.weights"), "no.weights: no such file or directory"),
        (("--cfg", "no.cfg"), "no.cfg: no such file or directory"),
        (("--cfg", "five.cfg"), "five.cfg: takes 5 channels, images have 1, 3 or 4"),
    ],
)
def test_what_cannot_work_is_exit_code_2_and_one_line(capsys, options, text):
    Path("one.names").write_text("one")
    Path("five.cfg").write_text(NETWORK.replace("channels=3", "channels=5"))
    assert run("pictures/a.png", options=options) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("yolotf: ")
    assert text in said.err
    assert said.err.count("\n") == 1
    assert not Path("detections").exists()


@pytest.mark.parametrize("missing", ["--cfg", "--weights", "inputs"])
def test_network_weights_and_inputs_have_no_default(capsys, missing):
    Path("net.weights").rename("other.weights")  # net.weights would be found
    words = {"inputs": "pictures", "--cfg": "net.cfg", "--weights": "other.weights"}
    line = [one for key, word in words.items() if key != missing for one in (key, word)]
    with pytest.raises(SystemExit) as stopped:
        cli.main(["detect", *(one for one in line if one != "inputs")])
    assert stopped.value.code == 2
    assert "required" in capsys.readouterr().err


def test_the_files_of_a_cfg_are_found_beside_it(capsys):
    assert run("pictures/a.png", "--json", "--score", "0") == 0
    expected = lines(capsys)
    Path("other").mkdir()
    for name, other in (("net.cfg", "animals.cfg"), ("net.names", "animals.names")):
        Path(name).rename(Path("other", other))
    Path("net.weights").rename("other/animals_best.weights")
    Path("other/animals.weights").write_bytes(b"an older one")
    for given in (["other/animals.cfg"], ["--cfg", "other/animals.cfg"]):
        assert cli.main(["detect", *given, "pictures/a.png", "--json", "--score", "0"]) == 0
        said = capsys.readouterr()
        assert [json.loads(line) for line in said.out.splitlines()] == expected
        assert "note: weights: other/animals_best.weights, beside other/animals.cfg\n" in said.err
        assert "note: names: other/animals.names, beside other/animals.cfg\n" in said.err
    # A data file where names are, and all of them among the inputs.
    Path("other/animals.names").rename("other/list.txt")
    Path("other/animals.data").write_text("classes=3\nnames=data/list.txt\n")
    assert cli.main(["detect", "other/animals.cfg", "pictures/a.png", "--json"]) == 0
    assert "note: names: other/animals.data, beside" in capsys.readouterr().err
    given = ["pictures/a.png", "other/animals_best.weights", "other/animals.cfg"]
    assert cli.main(["detect", *given, "other/animals.data", "--json", "--score", "0"]) == 0
    assert lines(capsys) == expected
    # Another network's names are nobody's who did not name them.
    Path("other/animals.names").write_text("a\nb\n")
    Path("other/animals.data").unlink()
    assert cli.main(["detect", "other/animals.cfg", "pictures/a.png", "--json"]) == 0
    assert "has 2 names, other/animals.cfg has 3 classes; the names are not" in (
        capsys.readouterr().err
    )
    with pytest.raises(SystemExit):
        cli.main(["detect", "other/animals.cfg", "--json"])
    assert "are required: IMAGE" in capsys.readouterr().err


def test_folders_are_searched_for_what_can_be_read():
    Image.init()
    readable = {
        ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN
    }
    # Pillow may be built without the libraries of these.
    assert not endings.IMAGES - readable - endings.HEIF - {".avif", ".jp2"}
    assert not endings.IMAGES & endings.VIDEOS


# Which detections, and other files of them.


def detections(capsys, *options):
    assert run("pictures/b.jpg", "--json", *options) == 0
    (found,) = lines(capsys)
    return found["detections"]


def test_only_some_classes_by_name_or_number(capsys):
    every = detections(capsys)
    assert len({one["class"] for one in every}) == 3
    cats = [one for one in every if one["name"] == "cat"]
    both = [one for one in every if one["class"] in (0, 2)]
    assert detections(capsys, "--only", "cat") == cats
    assert detections(capsys, "--only", "0,2") == both
    assert detections(capsys, "--classes", "kite, cat") == both
    assert detections(capsys, "--only", "cat", "--max-boxes", "1") == cats[:1]
    assert run("pictures/b.jpg", "--only", "cow") == 2
    assert "'cow' is not one of the 3 classes; names are cat, dog, kite" in capsys.readouterr().err


def test_across_classes_the_best_of_overlapping_boxes_stays(capsys):
    every = detections(capsys)
    expected = []
    for one in every:
        if all(overlap(one["xyxy"], other["xyxy"]) <= 0.45 for other in expected):
            expected.append(one)
    assert 0 < len(expected) < len(every)
    assert detections(capsys, "--agnostic") == expected


def overlap(one, other):
    sides = [min(one[i + 2], other[i + 2]) - max(one[i], other[i]) for i in (0, 1)]
    common = max(sides[0], 0) * max(sides[1], 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return common / (sum(areas) - common)


def test_the_best_boxes_only(capsys):
    every = detections(capsys)
    assert detections(capsys, "--max-boxes", "2") == every[:2]


def test_batches_change_nothing(capsys):
    inputs = ["pictures/a.png", "missing.jpg", "pictures/b.jpg", "pictures/c.PNG"]
    alone, together = [], []
    for answers, batch in ((alone, "1"), (together, "2")):
        assert run(*inputs, "--json", "--batch", batch) == 2
        answers += lines(capsys)
    assert [one["path"] for one in together] == inputs
    for one, other in zip(alone, together, strict=True):
        first, second = (each.get("detections", []) for each in (one, other))
        assert [each["class"] for each in first] == [each["class"] for each in second]
        boxes = [[each["xyxy"] for each in found] for found in (first, second)]
        np.testing.assert_allclose(*boxes, rtol=1e-4, atol=1e-3)


def test_labels_are_darknets(capsys):
    found = detections(capsys, "--save-txt", "-o", "out")
    assert entries("out") == ["b.jpg", "b.txt"]
    rows = np.loadtxt("out/b.txt", ndmin=2)
    expected, boxes = [], set()
    for one in found:
        if tuple(one["xyxy"]) in boxes:
            continue  # of another class with a lower score
        boxes.add(tuple(one["xyxy"]))
        left, top, right, bottom = np.clip(one["xyxy"], 0, [90, 60, 90, 60])
        if right > left and bottom > top:
            centre = ((left + right) / 180, (top + bottom) / 120)
            expected.append([one["class"], *centre, (right - left) / 90, (bottom - top) / 60])
    np.testing.assert_allclose(rows, expected, atol=1e-6)


def test_labels_with_scores(capsys):
    found = detections(capsys, "--save-conf", "-o", "out", "--score", "0.2")
    rows = np.loadtxt("out/b.txt", ndmin=2)
    boxes = {tuple(one["xyxy"]): one for one in reversed(found)}
    inside = [
        one
        for one in found
        if boxes[tuple(one["xyxy"])] is one and one["xyxy"][2] > 0 and one["xyxy"][3] > 0
    ]
    assert len(rows) <= len(inside)
    assert rows.shape[1] == 6
    scores = [one["score"] for one in inside]
    assert all(any(abs(score - row[5]) < 1e-6 for score in scores) for row in rows)


def test_labels_alone_draw_nothing(capsys):
    detections(capsys, "--save-txt")
    assert entries("detections") == ["b.txt"]


def test_results_of_all_pictures_as_coco_has_them(capsys):
    picture((90, 60)).save("pictures/val_000000000042.png")
    inputs = ("pictures/b.jpg", "pictures/val_000000000042.png")
    assert run(*inputs, "--json", "--coco-json", "results.json") == 0
    answers = lines(capsys)
    results = json.loads(Path("results.json").read_text())
    assert len(results) == sum(len(one["detections"]) for one in answers)
    assert {one["image_id"] for one in results} == {1, 2}
    first = answers[0]["detections"][0]
    left, top, right, bottom = np.clip(first["xyxy"], 0, [90, 60, 90, 60])
    assert results[0]["category_id"] == first["class"] + 1
    assert results[0]["score"] == first["score"]
    np.testing.assert_allclose(results[0]["bbox"], [left, top, right - left, bottom - top])
    listed = json.loads(Path("results.images.json").read_text())
    assert listed["images"] == [
        {"id": number, "file_name": name, "width": 90, "height": 60}
        for number, name in enumerate(inputs, 1)
    ]
    assert [one["name"] for one in listed["categories"]] == Path("net.names").read_text().split()
    assert run(*inputs, "--json", "--coco-json", "results.json") == 2
    assert run(inputs[1], "--json", "--coco-json", "one.json") == 0
    assert {one["image_id"] for one in json.loads(Path("one.json").read_text())} == {42}


def test_the_results_are_of_the_images_beside_them(capsys):
    pycocotools = pytest.importorskip("pycocotools.coco")
    assert run("pictures/b.jpg", "pictures/a.png", "--json", "--coco-json", "results.json") == 0
    answers = lines(capsys)
    truth = pycocotools.COCO("results.images.json")
    loaded = truth.loadRes("results.json")
    assert len(loaded.anns) == sum(len(one["detections"]) for one in answers)
    capsys.readouterr()


def test_no_two_pictures_share_an_image_id(capsys, video):
    for folder in ("a", "b"):
        Path(folder).mkdir()
        picture((30, 20)).save(f"{folder}/frame.jpg")
    for name in ("1.jpg", "IMG_001.jpg", "DSC_001.jpg"):
        picture((30, 20)).save(name)
    given = ("1.jpg", "IMG_001.jpg", "DSC_001.jpg", "a/frame.jpg", "b/frame.jpg", "clip.avi")
    assert run(*given, "--json", "--coco-json", "results.json", "--score", "0") == 0
    answers = lines(capsys)
    results = json.loads(Path("results.json").read_text())
    counts = [len(one["detections"]) for one in answers]
    assert min(counts) > 0
    assert [one["image_id"] for one in results] == [
        number for number, count in enumerate(counts, 1) for _ in range(count)
    ]
    images = json.loads(Path("results.images.json").read_text())["images"]
    assert [one["id"] for one in images] == list(range(1, 18))
    assert images[5]["file_name"] == images[16]["file_name"] == "clip.avi"
    assert (images[16]["frame"], images[16]["seconds"]) == (11, answers[16]["seconds"])


def instances(names, images):
    content = {
        "images": [
            {"id": number, "file_name": name, "width": 90, "height": 60} for name, number in images
        ],
        "annotations": [],
        "categories": [{"id": 10 + number, "name": name} for number, name in enumerate(names)],
    }
    Path("instances.json").write_text(json.dumps(content))
    return ("--json", "--coco-json", "results.json", "--coco-like", "instances.json")


def test_ids_of_a_coco_file(capsys):
    names = Path("net.names").read_text().split()
    like = instances(names[::-1], [("b.jpg", 77), ("sub/a.png", 5), ("c.PNG", "c")])
    given = ("pictures/a.png", "pictures/b.jpg", "pictures/c.PNG")
    assert run(*given, *like, "--score", "0") == 0
    answers = lines(capsys)
    results = json.loads(Path("results.json").read_text())
    assert [one["image_id"] for one in results] == [
        number
        for number, answer in zip((5, 77, "c"), answers, strict=True)
        for _ in answer["detections"]
    ]
    found = [one["class"] for answer in answers for one in answer["detections"]]
    last = len(names) - 1
    assert [one["category_id"] for one in results] == [10 + last - number for number in found]
    assert not Path("results.images.json").exists()


def test_what_a_coco_file_lacks_is_said(capsys):
    names = Path("net.names").read_text().split()
    like = instances([names[0], "other"], [("b.jpg", 77)])
    assert run("pictures/a.png", "pictures/b.jpg", *like, "--score", "0") == 0
    said = capsys.readouterr().err
    assert "instances.json: does not list 1 image, left out of the results" in said
    assert "instances.json: has no category for " in said
    results = json.loads(Path("results.json").read_text())
    assert {(one["image_id"], one["category_id"]) for one in results} == {(77, 10)}
    Path("results.json").unlink()
    assert run("pictures/a.png", *like) == 2
    assert (
        "instances.json: none of its images is among the 1 input; its first image is b.jpg"
        in capsys.readouterr().err
    )
    Path("other").mkdir()
    picture((30, 20)).save("other/b.jpg")
    assert run("other/b.jpg", "pictures/b.jpg", *like) == 2
    assert "other/b.jpg and pictures/b.jpg both match its image 77" in capsys.readouterr().err
    like = instances(["neither", "nor"], [("b.jpg", 77)])
    assert run("pictures/b.jpg", *like) == 2
    assert "none of its categories (neither, nor) is a class of" in capsys.readouterr().err
    assert run("pictures/b.jpg", "--coco-like", "instances.json") == 2
    assert not Path("results.json").exists()


def test_cocos_classes_have_cocos_categories():
    from yolotf.darknet.coco import COCO_IDS

    assert (len(COCO_IDS), COCO_IDS[0], COCO_IDS[11], COCO_IDS[79]) == (80, 1, 13, 90)


def test_folders_in_folders_and_patterns(capsys):
    Path("pictures/older").mkdir()
    picture((20, 20)).save("pictures/older/d.png")
    every = ["pictures/a.png", "pictures/b.jpg", "pictures/c.PNG", "pictures/older/d.png"]
    assert run("pictures", "--json", "--recursive") == 0
    assert [one["path"] for one in lines(capsys)] == every
    assert run("pictures/*.png", "pictures/**/d.*", "--json") == 0
    assert [one["path"] for one in lines(capsys)] == [every[0], every[3]]
    assert run("pictures/*.bmp", "--json") == 2
    assert "pictures/*.bmp: no such file or directory" in capsys.readouterr().err


@pytest.mark.slow
def test_paths_on_standard_input_are_answered_as_they_come():
    network = ["--cfg", "net.cfg", "--weights", "net.weights", "--names", "net.names"]
    command = [sys.executable, "-m", "yolotf", "detect", "-", *network, "--json"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, bufsize=1, **pipes) as process:
        for name in ("pictures/a.png", "none.png", "pictures/b.jpg"):
            print(name, file=process.stdin, flush=True)
            assert json.loads(process.stdout.readline())["path"] == name
        process.stdin.close()
        said = process.stderr.read()
    assert process.returncode == 2
    assert said.startswith("yolotf: none.png: no such file or directory\n2 images, ")


def test_boxes_can_be_drawn_thick_and_without_labels(detector):
    assert run("pictures/a.png", "--line-width", "5", "--no-labels") == 0
    expected = detector("pictures/a.png").draw("pictures/a.png", line_width=5, labels=False)
    with Image.open("detections/a.png") as drawing:
        np.testing.assert_array_equal(np.asarray(drawing), np.asarray(expected))


def test_a_stock_network_knows_cocos_names():
    from yolotf.darknet import stock
    from yolotf.darknet.class_names import stock_names
    from yolotf.darknet.coco import COCO_NAMES

    assert stock_names(stock.network("yolov4-tiny")) == COCO_NAMES
    assert stock_names(stock.network("yolov4-tiny", classes=3)) is None
    assert stock_names(cfg.parse_cfg(NETWORK).with_classes(80)) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "stem"),
    [("0", "camera-0"), ("rtsp://me:secret@10.0.0.1:554/live", "10.0.0.1_554_live")],
)
def test_cameras_and_streams_go_to_opencv(monkeypatch, capsys, video, name, stem):
    opened = []

    def capture(what):
        opened.append(what)
        return real("clip.avi")

    real = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", capture)
    assert run(name, "--json", "-o", "out") == 0
    answers = lines(capsys)
    assert opened == [int(name) if name == "0" else name]
    assert {one["path"] for one in answers} == {name.replace("me:secret@", "")}
    assert [one["frame"] for one in answers] == list(range(12))
    assert entries("out") == [f"{stem}.mp4"]
