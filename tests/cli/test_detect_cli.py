"""`yolotf detect` answers every input once, in order, as the `Detector` does."""

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
from support.messages import reported, said
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
    """A current folder with the files of a network and three images in `pictures`."""
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
    """Runs `detect` with the network's files; `options` may name others."""
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
    printed = capsys.readouterr()
    first, second = (json.loads(line) for line in printed.out.splitlines())
    for answer, path, size in (
        (first, "pictures/b.jpg", (90, 60)),
        (second, "pictures/a.png", (64, 32)),
    ):
        assert (answer["path"], answer["width"], answer["height"]) == (path, *size)
        assert {"detections": answer["detections"]} == detector(path).to_dict()
        assert len(answer["detections"]) > 0
        assert "drawing" not in answer
    assert entries(".") == before, "pictures are drawn only when asked for"
    total = len(first["detections"]) + len(second["detections"])
    assert printed.err.startswith(f"2 images, {total} detections, ")
    assert printed.err.count("\n") == 1


def test_without_json_drawings_go_to_a_folder(capsys, detector):
    assert run("pictures/b.jpg", "pictures/a.png") == 0
    assert entries("detections") == ["a.png", "b.jpg"]
    detections_found = detector("pictures/a.png")
    expected = np.asarray(detections_found.draw("pictures/a.png"))
    with Image.open("detections/a.png") as drawing:
        np.testing.assert_array_equal(np.asarray(drawing), expected)
    printed = capsys.readouterr().out
    assert f"pictures/a.png -> detections/a.png\n{detections_found}\n" in printed
    assert any(name in printed for name in NAMES)


def test_a_folder_stands_for_its_pictures_by_name(capsys):
    Path("pictures/notes.txt").write_text("no picture")
    Path("pictures/older").mkdir()
    picture((20, 20)).save("pictures/older/d.png")
    assert run("pictures", "--json", "-o", "out") == 0
    answers = lines(capsys)
    assert [answer["path"] for answer in answers] == [
        f"pictures/{name}" for name in ("a.png", "b.jpg", "c.PNG")
    ]
    assert [answer["drawing"] for answer in answers] == [
        f"out/{name}" for name in ("a.png", "b.jpg", "c.PNG")
    ]
    assert entries("out") == ["a.png", "b.jpg", "c.PNG"]


def test_images_are_turned_upright(capsys, detector):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    picture((90, 60)).save("turned.jpg", exif=exif)
    assert run("turned.jpg", "--json") == 0
    (answer,) = lines(capsys)
    assert (answer["width"], answer["height"]) == (60, 90)
    assert answer["detections"] == detector("turned.jpg").to_dict()["detections"]


def test_unreadable_images_are_reported_and_the_others_answered(capsys):
    whole = io.BytesIO()
    picture((300, 200)).save(whole, "JPEG")
    Path("cut.jpg").write_bytes(whole.getvalue()[:300])
    Path("text.png").write_text("no picture")
    Path("empty").mkdir()
    inputs = ("pictures/a.png", "missing.jpg", "cut.jpg", "text.png", "empty", "pictures/b.jpg")
    assert run(*inputs, "--json") == 2
    printed = capsys.readouterr()
    answers = [json.loads(line) for line in printed.out.splitlines()]
    assert [answer["path"] for answer in answers] == list(inputs)
    assert ["error" in answer for answer in answers] == [False, True, True, True, True, False]
    assert ["detections" in answer for answer in answers] == [
        True,
        False,
        False,
        False,
        False,
        True,
    ]
    note, *complaints, count = printed.err.splitlines()
    said(note)
    assert complaints == [
        f"yolotf: {answer['path']}: {answer['error']}" for answer in answers if "error" in answer
    ]
    for complaint in (complaints[0], *complaints[2:]):  # the second is Pillow's
        said(complaint)
    assert count.startswith("2 images, ")
    assert count.endswith(", 4 not read")


def test_truncated_jpeg_is_read_with_a_note(capsys):
    whole = io.BytesIO()
    picture((300, 200)).save(whole, "JPEG")
    Path("cut.jpg").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    assert run("cut.jpg", "--json") == 0
    printed = capsys.readouterr()
    said(reported(printed.err))
    (answer,) = map(json.loads, printed.out.splitlines())
    assert (answer["width"], answer["height"]) == (300, 200)


def test_files_skipped_in_a_folder_are_counted(capsys):
    for name in ("IMG_1.CR2", "IMG_2.cr2", "notes.doc", "a.txt", ".hidden"):
        Path("pictures", name).write_bytes(b"")
    assert run("pictures", "--json") == 0
    said(reported(capsys.readouterr().err))
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
    assert [answer["seconds"] for answer in lines(capsys)] == pytest.approx([0, 0.1, 0.6, 0.7])


def test_undecodable_file_names_do_not_stop_the_others(capsys, tmp_path):
    odd = os.fsdecode(b"caf\xe9.png")
    picture((40, 40)).save(odd)
    assert run(odd, "pictures/a.png") == 0
    assert "caf\\xe9.png -> detections/caf\\xe9.png\n" in capsys.readouterr().out


def test_thresholds_filter_detections(capsys):
    counts = {}
    for options in ((), ("--score", "0.3"), ("--iou", "0.1"), ("--iou", "0.95")):
        assert run("pictures/b.jpg", "--json", *options) == 0
        (answer,) = lines(capsys)
        counts[options] = len(answer["detections"])
        if "--score" in options:
            assert all(detection["score"] >= 0.3 for detection in answer["detections"])
    default, scored, strict, loose = counts.values()
    assert 0 < scored < default
    assert strict < default < loose


def test_classes_and_size_replace_those_of_the_cfg(capsys):
    trained = cfg.parse_cfg(NETWORK).with_classes(5).resized((64, 96))
    Path("net.weights").write_bytes(numpy_loader.random_file(trained.to_cfg()))
    Path("net.names").write_text("a\nb\nc\nd\ne\n")
    assert run("pictures/b.jpg", "--json", "--classes", "5", "--size", "96x64") == 0
    (answer,) = lines(capsys)
    expected = Detector(trained, "net.weights", class_names="net.names")("pictures/b.jpg")
    assert answer["detections"] == expected.to_dict()["detections"]


def test_drawings_replace_no_input_and_no_other_drawing(capsys):
    Path("more").mkdir()
    picture((30, 30), seed=1).save("more/a.png")
    picture((30, 30), seed=2).save("more/a.gif")
    before = {path: path.read_bytes() for path in Path().glob("*/a.*")}
    assert run("pictures/a.png", "more/a.png", "more/a.gif", "-o", "pictures", "--json") == 0
    drawings = [answer["drawing"] for answer in lines(capsys)]
    assert drawings == ["pictures/a-2.png", "pictures/a-3.png", "pictures/a-4.png"]
    for path, content in before.items():
        assert path.read_bytes() == content
    with Image.open("pictures/a-3.png") as second:
        assert second.size == (30, 30)


def test_a_grey_network_takes_coloured_pictures_and_they_stay_coloured(capsys):
    write_network(NETWORK.replace("channels=3", "channels=1"))
    assert run("pictures/a.png", "--json", "-o", "out") == 0
    (answer,) = lines(capsys)
    grey = np.asarray(Image.open("pictures/a.png").convert("L"))
    expected = Detector("net.cfg", "net.weights", class_names="net.names")(grey)
    assert answer["detections"] == expected.to_dict()["detections"]
    with Image.open("out/a.png") as drawing:
        assert drawing.mode == "RGB"
        assert np.ptp(np.asarray(drawing).astype(int), axis=2).max() > 50


def test_infinite_boxes_are_still_json(capsys):
    # exp(w) of the first anchor is infinite, in float32.
    content = bytearray(Path("net.weights").read_bytes())
    biases = len(content) - 4 * (24 * 16 + 24)
    for anchor in range(3):
        place = biases + 4 * (8 * anchor + 2)
        content[place : place + 4] = np.float32(1e4).tobytes()
    Path("net.weights").write_bytes(content)
    assert run("pictures/a.png", "--json") == 0
    printed = capsys.readouterr().out

    def refuse(word):
        raise AssertionError(word)

    answer = json.loads(printed, parse_constant=refuse)
    assert answer["detections"]
    # They reach from edge to edge.
    width = answer["width"]
    assert any(detection["xyxy"][0::2] == [0, width] for detection in answer["detections"])


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
    for number, (answer, frame) in enumerate(zip(frames, video, strict=True)):
        assert (answer["path"], answer["frame"]) == ("clip.avi", number)
        assert answer["seconds"] == pytest.approx(number / 5)
        assert (answer["width"], answer["height"]) == (80, 48)
        assert answer["drawing"] == "out/clip.mp4"
        assert answer["detections"] == detector(frame).to_dict()["detections"]
    drawn = read_video("out/clip.mp4")
    assert [image.shape for image in drawn] == [(48, 80, 3)] * 12
    # Twelve frames of noise squeezed into MPEG-4: near its own drawing, far from the others.
    drawings = [np.asarray(detector(image).draw(image), int) for image in video]
    distances = [[np.abs(image - other).mean() for other in drawings] for image in drawn]
    assert np.argmin(distances, axis=1).tolist() == list(range(12))


def test_report_of_a_video_names_its_frames(capsys, video):
    assert run("clip.avi") == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("clip.avi frame 0 -> detections/clip.mp4\n")
    assert "\nclip.avi frame 11\n" in printed.out
    assert printed.err.startswith("12 images, ")


def test_a_video_without_frames_is_reported(capsys):
    Path("broken.mp4").write_bytes(b"\0" * 1000)
    assert run("broken.mp4", "missing.mp4", "pictures/a.png", "--json") == 2
    answers = lines(capsys)
    for answer, path in zip(answers[:2], ("broken.mp4", "missing.mp4"), strict=True):
        assert answer.keys() == {"path", "error"}
        assert answer["path"] == path
        said(answer["error"])
    assert "detections" in answers[2]


def test_without_opencv_a_video_names_the_extra_and_pictures_go_on(capsys, video, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert run("clip.avi", "pictures/a.png", "--json") == 2
    first, second = lines(capsys)
    said(first["error"])
    assert "detections" in second


# The terminal.


def test_progress_bar_is_on_stderr(capsys, terminal):
    with terminal() as shown:
        assert run("pictures", "--json") == 0
    assert "0/3" in shown.getvalue()
    assert "3/3" in shown.getvalue()
    assert "path" not in shown.getvalue()
    assert "3 images, " in shown.getvalue()
    assert len(lines(capsys)) == 3


def test_progress_bar_grows_by_the_frames_of_a_video(video, terminal):
    with terminal() as shown:
        assert run("clip.avi", "pictures/a.png", "--json") == 0
    assert "14/14" in shown.getvalue()


@pytest.mark.slow
def test_closed_pipe_ends_the_command_quietly():
    command = [sys.executable, "-m", "yolotf.cli", "detect", *["pictures/a.png"] * 500, "--json"]
    command += ["--cfg", "net.cfg", "--weights", "net.weights"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert json.loads(process.stdout.readline())["path"] == "pictures/a.png"
        process.stdout.close()
        stderr = process.stderr.read().decode()
    assert process.returncode == 0
    assert "Traceback" not in stderr
    assert "BrokenPipe" not in stderr


# Usage.


def test_weights_of_another_network_are_exit_code_1(capsys):
    content = Path("net.weights").read_bytes()
    Path("net.weights").write_bytes(content + bytes(400))
    assert run("pictures/a.png", "--json") == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    said(printed.err)


@pytest.mark.parametrize(
    "options",
    [
        ("--score", "150"),
        ("--iou", "-1"),
        ("-o", "net.cfg"),
        ("--names", "one.names"),
        ("--names", "no.names"),
        ("--weights", "no.weights"),
        ("--cfg", "no.cfg"),
        ("--cfg", "five.cfg"),
    ],
)
def test_bad_arguments_are_exit_code_2_and_one_line(capsys, options):
    Path("one.names").write_text("one")
    Path("five.cfg").write_text(NETWORK.replace("channels=3", "channels=5"))
    assert run("pictures/a.png", options=options) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("yolotf: ")
    assert printed.err.count("\n") == 1
    said(printed.err)
    assert not Path("detections").exists()


@pytest.mark.parametrize("missing", ["--cfg", "--weights", "inputs"])
def test_network_weights_and_inputs_have_no_default(capsys, missing):
    Path("net.weights").rename("other.weights")  # net.weights would be found
    words = {"inputs": "pictures", "--cfg": "net.cfg", "--weights": "other.weights"}
    line = [part for key, word in words.items() if key != missing for part in (key, word)]
    with pytest.raises(SystemExit) as stopped:
        cli.main(["detect", *(part for part in line if part != "inputs")])
    assert stopped.value.code == 2
    assert "required" in capsys.readouterr().err


def test_weights_and_names_are_taken_from_beside_the_cfg(capsys):
    assert run("pictures/a.png", "--json", "--score", "0") == 0
    expected = lines(capsys)
    Path("other").mkdir()
    for name, other in (("net.cfg", "animals.cfg"), ("net.names", "animals.names")):
        Path(name).rename(Path("other", other))
    Path("net.weights").rename("other/animals_best.weights")
    Path("other/animals.weights").write_bytes(b"an older one")
    for given in (["other/animals.cfg"], ["--cfg", "other/animals.cfg"]):
        assert cli.main(["detect", *given, "pictures/a.png", "--json", "--score", "0"]) == 0
        printed = capsys.readouterr()
        assert [json.loads(line) for line in printed.out.splitlines()] == expected
        said(reported(printed.err))
    # A data file where names are, and all of them among the inputs.
    Path("other/animals.names").rename("other/list.txt")
    Path("other/animals.data").write_text("classes=3\nnames=data/list.txt\n")
    assert cli.main(["detect", "other/animals.cfg", "pictures/a.png", "--json"]) == 0
    said(reported(capsys.readouterr().err))
    given = ["pictures/a.png", "other/animals_best.weights", "other/animals.cfg"]
    assert cli.main(["detect", *given, "other/animals.data", "--json", "--score", "0"]) == 0
    assert lines(capsys) == expected
    # Names of another network are not taken unless they are named.
    Path("other/animals.names").write_text("a\nb\n")
    Path("other/animals.data").unlink()
    assert cli.main(["detect", "other/animals.cfg", "pictures/a.png", "--json"]) == 0
    said(reported(capsys.readouterr().err))
    with pytest.raises(SystemExit):
        cli.main(["detect", "other/animals.cfg", "--json"])
    assert "are required: IMAGE" in capsys.readouterr().err


def test_a_name_without_its_ending_is_the_cfg(capsys):
    """As with the tools of hank-ai's Darknet: darknet_06_images_to_json animals pic.jpg."""
    assert run("pictures/a.png", "--json", "--score", "0") == 0
    expected = lines(capsys)
    assert cli.main(["detect", "net", "pictures/a.png", "--json", "--score", "0"]) == 0
    printed = capsys.readouterr()
    assert [json.loads(line) for line in printed.out.splitlines()] == expected
    said(reported(printed.err))
    # A file of that name is an image.
    Path("net").write_bytes(Path("pictures/a.png").read_bytes())
    with pytest.raises(SystemExit):
        cli.main(["detect", "net", "pictures/a.png", "--json"])
    assert "are required: --cfg" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--score-threshold", "--score", "--thresh", "-thresh"])
def test_score_threshold_in_per_cent(capsys, option):
    (every,) = detections_above(capsys, option, "0")
    scores = sorted(detection["score"] for detection in every["detections"])
    middle = sum(scores[len(scores) // 2 :][:2]) / 2
    assert middle > 0.011  # 1 and less is a fraction
    (few,), (same,) = (
        detections_above(capsys, option, value) for value in (f"{middle}", f"{100 * middle}")
    )
    assert few == same
    assert 0 < len(few["detections"]) < len(scores)


def detections_above(capsys, option, value):
    assert run("pictures/b.jpg", "--json", option, value) == 0
    return lines(capsys)


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
    (answer,) = lines(capsys)
    return answer["detections"]


def test_only_keeps_classes_by_name_or_number(capsys):
    every = detections(capsys)
    assert len({detection["class"] for detection in every}) == 3
    cats = [detection for detection in every if detection["name"] == "cat"]
    cats_and_kites = [detection for detection in every if detection["class"] in (0, 2)]
    assert detections(capsys, "--only", "cat") == cats
    assert detections(capsys, "--only", "0,2") == cats_and_kites
    assert detections(capsys, "--classes", "kite, cat") == cats_and_kites
    assert detections(capsys, "--only", "cat", "--max-boxes", "1") == cats[:1]
    assert run("pictures/b.jpg", "--only", "cow") == 2
    said(capsys.readouterr().err)


def test_agnostic_suppression_keeps_the_best_of_overlapping_boxes(capsys):
    every = detections(capsys)
    expected = []
    for detection in every:
        if all(overlap(detection["xyxy"], other["xyxy"]) <= 0.45 for other in expected):
            expected.append(detection)
    assert 0 < len(expected) < len(every)
    assert detections(capsys, "--agnostic") == expected


def overlap(first, second):
    sides = [min(first[i + 2], second[i + 2]) - max(first[i], second[i]) for i in (0, 1)]
    common = max(sides[0], 0) * max(sides[1], 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return common / (sum(areas) - common)


def test_max_boxes_keeps_the_best(capsys):
    every = detections(capsys)
    assert detections(capsys, "--max-boxes", "2") == every[:2]


def test_batches_change_nothing(capsys):
    inputs = ["pictures/a.png", "missing.jpg", "pictures/b.jpg", "pictures/c.PNG"]
    alone, together = [], []
    for answers, batch in ((alone, "1"), (together, "2")):
        assert run(*inputs, "--json", "--batch", batch) == 2
        answers += lines(capsys)
    assert [answer["path"] for answer in together] == inputs
    for answer, batched_answer in zip(alone, together, strict=True):
        first, second = (each.get("detections", []) for each in (answer, batched_answer))
        assert [each["class"] for each in first] == [each["class"] for each in second]
        boxes = [
            [each["xyxy"] for each in detections_of_image]
            for detections_of_image in (first, second)
        ]
        np.testing.assert_allclose(*boxes, rtol=1e-4, atol=1e-3)


def test_labels_are_darknets(capsys):
    every = detections(capsys, "--save-txt", "-o", "out")
    assert entries("out") == ["b.jpg", "b.txt"]
    rows = np.loadtxt("out/b.txt", ndmin=2)
    expected, boxes = [], set()
    for detection in every:
        if tuple(detection["xyxy"]) in boxes:
            continue  # of another class with a lower score
        boxes.add(tuple(detection["xyxy"]))
        left, top, right, bottom = np.clip(detection["xyxy"], 0, [90, 60, 90, 60])
        if right > left and bottom > top:
            centre = ((left + right) / 180, (top + bottom) / 120)
            expected.append([detection["class"], *centre, (right - left) / 90, (bottom - top) / 60])
    np.testing.assert_allclose(rows, expected, atol=1e-6)


def test_labels_with_scores(capsys):
    every = detections(capsys, "--save-conf", "-o", "out", "--score", "0.2")
    rows = np.loadtxt("out/b.txt", ndmin=2)
    boxes = {tuple(detection["xyxy"]): detection for detection in reversed(every)}
    inside = [
        detection
        for detection in every
        if boxes[tuple(detection["xyxy"])] is detection
        and detection["xyxy"][2] > 0
        and detection["xyxy"][3] > 0
    ]
    assert len(rows) <= len(inside)
    assert rows.shape[1] == 6
    scores = [detection["score"] for detection in inside]
    assert all(any(abs(score - row[5]) < 1e-6 for score in scores) for row in rows)


def test_labels_alone_draw_nothing(capsys):
    detections(capsys, "--save-txt")
    assert entries("detections") == ["b.txt"]


def test_coco_results_of_all_images(capsys):
    picture((90, 60)).save("pictures/val_000000000042.png")
    inputs = ("pictures/b.jpg", "pictures/val_000000000042.png")
    assert run(*inputs, "--json", "--coco-json", "results.json") == 0
    answers = lines(capsys)
    results = json.loads(Path("results.json").read_text())
    assert len(results) == sum(len(answer["detections"]) for answer in answers)
    assert {result["image_id"] for result in results} == {1, 2}
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
    assert [category["name"] for category in listed["categories"]] == Path(
        "net.names"
    ).read_text().split()
    assert run(*inputs, "--json", "--coco-json", "results.json") == 2
    assert run(inputs[1], "--json", "--coco-json", "one.json") == 0
    assert {result["image_id"] for result in json.loads(Path("one.json").read_text())} == {42}


def test_coco_results_load_with_their_images(capsys):
    pycocotools = pytest.importorskip("pycocotools.coco")
    assert run("pictures/b.jpg", "pictures/a.png", "--json", "--coco-json", "results.json") == 0
    answers = lines(capsys)
    truth = pycocotools.COCO("results.images.json")
    loaded = truth.loadRes("results.json")
    assert len(loaded.anns) == sum(len(answer["detections"]) for answer in answers)
    capsys.readouterr()


def test_no_two_images_share_a_coco_id(capsys, video):
    for folder in ("a", "b"):
        Path(folder).mkdir()
        picture((30, 20)).save(f"{folder}/frame.jpg")
    for name in ("1.jpg", "IMG_001.jpg", "DSC_001.jpg"):
        picture((30, 20)).save(name)
    given = ("1.jpg", "IMG_001.jpg", "DSC_001.jpg", "a/frame.jpg", "b/frame.jpg", "clip.avi")
    assert run(*given, "--json", "--coco-json", "results.json", "--score", "0") == 0
    answers = lines(capsys)
    results = json.loads(Path("results.json").read_text())
    counts = [len(answer["detections"]) for answer in answers]
    assert min(counts) > 0
    assert [result["image_id"] for result in results] == [
        number for number, count in enumerate(counts, 1) for _ in range(count)
    ]
    images = json.loads(Path("results.images.json").read_text())["images"]
    assert [image["id"] for image in images] == list(range(1, 18))
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


def test_coco_like_takes_the_ids_of_a_coco_file(capsys):
    names = Path("net.names").read_text().split()
    like = instances(names[::-1], [("b.jpg", 77), ("sub/a.png", 5), ("c.PNG", "c")])
    given = ("pictures/a.png", "pictures/b.jpg", "pictures/c.PNG")
    assert run(*given, *like, "--score", "0") == 0
    answers = lines(capsys)
    results = json.loads(Path("results.json").read_text())
    assert [result["image_id"] for result in results] == [
        number
        for number, answer in zip((5, 77, "c"), answers, strict=True)
        for _ in answer["detections"]
    ]
    class_ids = [detection["class"] for answer in answers for detection in answer["detections"]]
    last = len(names) - 1
    assert [result["category_id"] for result in results] == [
        10 + last - number for number in class_ids
    ]
    assert not Path("results.images.json").exists()


def test_images_and_classes_missing_from_a_coco_file_are_reported(capsys):
    names = Path("net.names").read_text().split()
    like = instances([names[0], "other"], [("b.jpg", 77)])
    assert run("pictures/a.png", "pictures/b.jpg", *like, "--score", "0") == 0
    said(reported(capsys.readouterr().err), hide=r"\d+(?= detection)")
    results = json.loads(Path("results.json").read_text())
    assert {(result["image_id"], result["category_id"]) for result in results} == {(77, 10)}
    Path("results.json").unlink()
    assert run("pictures/a.png", *like) == 2
    said(reported(capsys.readouterr().err))
    Path("other").mkdir()
    picture((30, 20)).save("other/b.jpg")
    assert run("other/b.jpg", "pictures/b.jpg", *like) == 2
    said(reported(capsys.readouterr().err))
    like = instances(["neither", "nor"], [("b.jpg", 77)])
    assert run("pictures/b.jpg", *like) == 2
    said(reported(capsys.readouterr().err))
    assert run("pictures/b.jpg", "--coco-like", "instances.json") == 2
    assert not Path("results.json").exists()


def test_coco_classes_have_the_category_ids_of_coco():
    from yolotf.darknet.coco import COCO_IDS

    assert (len(COCO_IDS), COCO_IDS[0], COCO_IDS[11], COCO_IDS[79]) == (80, 1, 13, 90)


def test_folders_in_folders_and_patterns(capsys):
    Path("pictures/older").mkdir()
    picture((20, 20)).save("pictures/older/d.png")
    every = ["pictures/a.png", "pictures/b.jpg", "pictures/c.PNG", "pictures/older/d.png"]
    assert run("pictures", "--json", "--recursive") == 0
    assert [answer["path"] for answer in lines(capsys)] == every
    assert run("pictures/*.png", "pictures/**/d.*", "--json") == 0
    assert [answer["path"] for answer in lines(capsys)] == [every[0], every[3]]
    assert run("pictures/*.bmp", "--json") == 2
    said(reported(capsys.readouterr().err))


@pytest.mark.slow
def test_paths_on_standard_input_are_answered_at_once():
    network = ["--cfg", "net.cfg", "--weights", "net.weights", "--names", "net.names"]
    command = [sys.executable, "-m", "yolotf", "detect", "-", *network, "--json"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, bufsize=1, **pipes) as process:
        for name in ("pictures/a.png", "none.png", "pictures/b.jpg"):
            print(name, file=process.stdin, flush=True)
            assert json.loads(process.stdout.readline())["path"] == name
        process.stdin.close()
        stderr = process.stderr.read()
    assert process.returncode == 2
    said(reported(stderr))
    assert stderr.splitlines()[-1].startswith("2 images, ")


def test_boxes_can_be_drawn_thick_and_without_labels(detector):
    assert run("pictures/a.png", "--line-width", "5", "--no-labels") == 0
    expected = detector("pictures/a.png").draw("pictures/a.png", line_width=5, labels=False)
    with Image.open("detections/a.png") as drawing:
        np.testing.assert_array_equal(np.asarray(drawing), np.asarray(expected))


def test_stock_network_has_cocos_names():
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

    def capture(source):
        opened.append(source)
        return real("clip.avi")

    real = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", capture)
    assert run(name, "--json", "-o", "out") == 0
    answers = lines(capsys)
    assert opened == [int(name) if name == "0" else name]
    assert {answer["path"] for answer in answers} == {name.replace("me:secret@", "")}
    assert [answer["frame"] for answer in answers] == list(range(12))
    assert entries("out") == [f"{stem}.mp4"]
