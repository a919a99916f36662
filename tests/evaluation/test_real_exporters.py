"""Data sets that the exporters themselves write: CVAT's (datumaro), Label Studio's, supervision's
and globox'. They are heavy, and installed by the group `exporters` alone."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from PIL import Image
from test_label_tools import NAMES, ROWS, by_name, expected, read

from yolotf import evaluation

pytestmark = pytest.mark.filterwarnings("ignore")  # of the exporters' own


@pytest.fixture
def pictures(tmp_path):
    random = np.random.default_rng(5)
    (tmp_path / "source").mkdir()
    rows_of = {}
    for number, rows in enumerate(ROWS):
        path = tmp_path / "source" / f"street {number}.png"
        Image.fromarray(random.integers(0, 256, (48, 64, 3), np.uint8)).save(path)
        rows_of[path] = rows
    return rows_of


def datumaro(kind, subset="train"):
    def export(folder, pictures):
        pytest.importorskip("datumaro", reason="datumaro, of the group exporters, writes this")
        from datumaro.components.annotation import Bbox
        from datumaro.components.dataset import Dataset
        from datumaro.components.dataset_base import DatasetItem
        from datumaro.components.media import Image as Media

        items = [
            DatasetItem(
                id=path.stem,
                subset=part,
                media=Media.from_file(path=str(path)),
                annotations=[Bbox(*box, label=k) for k, *box in rows],
            )
            for path, rows in pictures.items()
            for part in ((subset,) if kind != "yolo_ultralytics" else ("train", "val"))
        ]
        Dataset.from_iterable(items, categories=NAMES).export(str(folder), kind, save_media=True)
        return {
            "yolo": ["--data", folder / "obj.data"],
            "yolo_ultralytics": ["--data", folder / "data.yaml"],
            "coco_instances": ["--coco", folder / f"annotations/instances_{subset}.json"],
        }[kind]

    return export


def supervision(kind):
    def export(folder, pictures):
        pytest.importorskip("supervision", reason="supervision, of the group exporters, writes it")
        import supervision as sv

        annotations = {
            str(path): sv.Detections(
                xyxy=np.array([[x, y, x + w, y + h] for _, x, y, w, h in rows], float),
                class_id=np.array([k for k, *_ in rows]),
            )
            if rows
            else sv.Detections.empty()
            for path, rows in pictures.items()
        }
        data = sv.DetectionDataset(classes=NAMES, images=list(annotations), annotations=annotations)
        images = str(folder / "images")
        if kind == "yolo":
            data.as_yolo(images, str(folder / "labels"), str(folder / "data.yaml"))
            return ["--data", folder / "data.yaml"]
        data.as_coco(images, str(folder / "instances.json"))
        return ["--coco", folder / "instances.json"]

    return export


def globox(folder, pictures):
    pytest.importorskip("globox", reason="globox, of the group exporters, writes this")
    from globox import Annotation, AnnotationSet, BoundingBox

    data = AnnotationSet()
    for path, rows in pictures.items():
        boxes = [
            BoundingBox(label=NAMES[k], xmin=x, ymin=y, xmax=x + w, ymax=y + h)
            for k, x, y, w, h in rows
        ]
        data.add(Annotation(path.name, (64, 48), boxes))
    folder.mkdir()
    data.save_coco(folder / "coco.json", auto_ids=True)
    for path in pictures:
        (folder / path.name).write_bytes(path.read_bytes())
    return ["--coco", folder / "coco.json"]


def label_studio(kind):
    def export(folder, pictures):
        pytest.importorskip("label_studio_sdk", reason="label-studio-sdk, of the group exporters")
        from label_studio_sdk.converter import Converter

        logging.getLogger("label_studio_sdk").setLevel(logging.ERROR)
        labels = "".join(f'<Label value="{name}"/>' for name in NAMES)
        config = (
            '<View><Image name="image" value="$image"/><RectangleLabels name="label" '
            f'toName="image">{labels}</RectangleLabels></View>'
        )
        tasks = []
        for number, (path, rows) in enumerate(pictures.items(), 1):
            results = [
                {
                    "id": f"r{place}",
                    "type": "rectanglelabels",
                    "from_name": "label",
                    "to_name": "image",
                    "original_width": 64,
                    "original_height": 48,
                    "value": {
                        "x": 100 * x / 64,
                        "y": 100 * y / 48,
                        "width": 100 * w / 64,
                        "height": 100 * h / 48,
                        "rotation": 0,
                        "rectanglelabels": [NAMES[k]],
                    },
                }
                for place, (k, x, y, w, h) in enumerate(rows)
            ]
            annotation = {"id": number, "completed_by": 1, "result": results}
            tasks.append({"id": number, "data": {"image": str(path)}, "annotations": [annotation]})
        folder.mkdir()
        (folder / "tasks.json").write_text(json.dumps(tasks))
        converter = Converter(config, project_dir=str(folder), download_resources=False)
        converter.convert(str(folder / "tasks.json"), str(folder / "out"), kind, is_dir=False)
        (folder / "out/images").mkdir(exist_ok=True)
        for path in pictures:
            (folder / "out/images" / path.name).write_bytes(path.read_bytes())
        if kind == "YOLO":
            return ["--data", folder / "out"]
        return ["--coco", folder / "out/result.json"]

    return export


EXPORTERS = {
    "datumaro yolo": datumaro("yolo"),
    "datumaro yolo_ultralytics": datumaro("yolo_ultralytics"),
    "datumaro coco_instances": datumaro("coco_instances"),
    "supervision yolo": supervision("yolo"),
    "supervision coco": supervision("coco"),
    "globox coco": globox,
    "label studio yolo": label_studio("YOLO"),
    "label studio coco": label_studio("COCO"),
}


@pytest.mark.parametrize("name", EXPORTERS)
def test_exports_of_real_tools_are_read(name, pictures, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    arguments = EXPORTERS[name](tmp_path / "set", pictures)
    data = read([arguments[0], str(arguments[1])])
    assert by_name(data) == expected()
    paired = evaluation.paired(data, ("tie", "person", "car"), 3)
    assert by_name(paired) == expected()
    if data.coco is not None:
        pytest.importorskip("pycocotools")
        from test_label_tools import perfect

        assert evaluation.coco_numbers(perfect(paired), paired)["AP"] == pytest.approx(1)
