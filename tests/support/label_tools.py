"""Data sets as labelling tools export them, written by hand.

Each function writes a data set into a folder, and returns the arguments for `yolotf eval`. `rows`
are class number, left, top, width and height in pixels.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image


class Picture(NamedTuple):
    """A picture to export."""

    path: Path
    rows: list[tuple[int, float, float, float, float]]

    @property
    def size(self) -> tuple[int, int]:
        with Image.open(self.path) as image:
            return image.size

    def lines(self, classes: list[int]) -> str:
        """Returns its labels in Darknet's format; `classes[c]` is the number of class c there."""
        width, height = self.size
        return "".join(
            f"{classes[k]} {(x + w / 2) / width:.6f} {(y + h / 2) / height:.6f} "
            f"{w / width:.6f} {h / height:.6f}\n"
            for k, x, y, w, h in self.rows
        )


Tool = Callable[[Path, list[Picture], list[str]], list[str]]


def _copied(pictures: list[Picture], images: Path, labels: Path | None, classes: list[int]) -> None:
    for folder in {images, labels or images}:
        folder.mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        shutil.copy(picture.path, images)
        if labels is not None:
            (labels / f"{picture.path.stem}.txt").write_text(picture.lines(classes))


def alphabetical(names: list[str]) -> tuple[list[str], list[int]]:
    """Returns the names in alphabetical order, and the position of each of `names` there."""
    ordered = sorted(names)
    return ordered, [ordered.index(name) for name in names]


def cvat_yolo(folder: Path, pictures: list[Picture], names: list[str]) -> list[str]:
    """CVAT's YOLO 1.1, unpacked, but not into the folder `data/` that its paths name."""
    inside = folder / "obj_train_data"
    _copied(pictures, inside, inside, [*range(len(names))])
    (folder / "obj.names").write_text("\n".join(names) + "\n")
    listed = "".join(f"data/obj_train_data/{picture.path.name}\n" for picture in pictures)
    (folder / "train.txt").write_text(listed)
    (folder / "obj.data").write_text(
        f"classes = {len(names)}\ntrain = data/train.txt\nnames = data/obj.names\n"
        "backup = backup/\n"
    )
    return ["--data", str(folder / "obj.data")]


def label_studio_yolo(folder: Path, pictures: list[Picture], names: list[str]) -> list[str]:
    """Label Studio's YOLO: classes in alphabetical order, no data file."""
    ordered, classes = alphabetical(names)
    _copied(pictures, folder / "images", folder / "labels", classes)
    (folder / "classes.txt").write_text("\n".join(ordered) + "\n")
    categories = [{"id": k, "name": name} for k, name in enumerate(ordered)]
    (folder / "notes.json").write_text(json.dumps({"categories": categories}))
    return ["--data", str(folder)]


def ultralytics(folder: Path, pictures: list[Picture], names: list[str]) -> list[str]:
    """Ultralytics' format: images/val, labels/val, names as a mapping, a comment first."""
    _copied(pictures, folder / "images/val", folder / "labels/val", [*range(len(names))])
    (folder / "images/train").mkdir()
    listed = "".join(f"  {k}: {name}\n" for k, name in enumerate(names))
    (folder / "mine.yaml").write_text(
        f"# my set\npath: {folder.name}  # from the folder of data sets\ntrain: images/train\n"
        f"val: images/val\nnames:\n{listed}"
    )
    return ["--data", str(folder / "mine.yaml")]


def roboflow_yolo(folder: Path, pictures: list[Picture], names: list[str]) -> list[str]:
    """Roboflow's YOLO: paths that start above the folder of data.yaml."""
    for part in ("train", "valid"):
        _copied(
            pictures if part == "valid" else pictures[:1],
            folder / part / "images",
            folder / part / "labels",
            [*range(len(names))],
        )
    (folder / "data.yaml").write_text(
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\n"
        f"nc: {len(names)}\nnames: {names}\n"
    )
    return ["--data", str(folder)]


def roboflow_darknet(folder: Path, pictures: list[Picture], names: list[str]) -> list[str]:
    """Roboflow's Darknet format: names in _darknet.labels, no data file."""
    _copied(pictures, folder / "valid", folder / "valid", [*range(len(names))])
    _copied(pictures[:1], folder / "train", folder / "train", [*range(len(names))])
    for part in ("train", "valid"):
        (folder / part / "_darknet.labels").write_text("\n".join(names))
    return ["--data", str(folder)]


def supervision_yolo(folder: Path, pictures: list[Picture], names: list[str]) -> list[str]:
    """supervision's YOLO: a data.yaml without image folders."""
    _copied(pictures, folder / "images", folder / "labels", [*range(len(names))])
    (folder / "data.yaml").write_text(f"nc: {len(names)}\nnames: {names}\n")
    return ["--data", str(folder / "data.yaml")]


def hank_ai(folder: Path, pictures: list[Picture], names: list[str]) -> list[str]:
    """A data set for hank-ai's Darknet: labels beside the images in JPEGImages."""
    _copied(pictures, folder / "JPEGImages", folder / "JPEGImages", [*range(len(names))])
    listed = "".join(f"{folder}/JPEGImages/{picture.path.name}\n" for picture in pictures)
    (folder / "valid.txt").write_text(listed)
    (folder / "my.names").write_text("\n".join(names) + "\n")
    (folder / "my.data").write_text(
        f"classes={len(names)}\nvalid={folder}/valid.txt\nnames={folder}/my.names\n"
    )
    return ["--data", str(folder / "my.data")]


def _instances(
    pictures: list[Picture],
    categories: list[dict[str, Any]],
    ids: list[int],
    first: int,
    named: Callable[[Picture], str],
) -> dict[str, Any]:
    images, annotations = [], []
    for number, picture in enumerate(pictures, first):
        width, height = picture.size
        about = {"id": number, "width": width, "height": height, "file_name": named(picture)}
        images.append(about)
        for k, *box in picture.rows:
            annotations.append(
                {
                    "id": len(annotations) + first,
                    "image_id": number,
                    "category_id": ids[k],
                    "bbox": [float(value) for value in box],
                    "area": float(box[2] * box[3]),
                    "iscrowd": 0,
                    "segmentation": [],
                }
            )
    return {"images": images, "annotations": annotations, "categories": categories}


def _write(path: Path, content: dict[str, Any]) -> list[str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return ["--coco", str(path)]


def label_studio_coco(folder: Path, pictures: list[Picture], names: list[str]) -> list[str]:
    """Label Studio's COCO: all ids start at 0, categories in alphabetical order."""
    _copied(pictures, folder / "images", None, [])
    ordered, ids = alphabetical(names)
    categories = [{"id": k, "name": name} for k, name in enumerate(ordered)]
    content = _instances(
        pictures, categories, ids, 0, lambda picture: f"images/{picture.path.name}"
    )
    return _write(folder / "result.json", content)


def roboflow_coco(folder: Path, pictures: list[Picture], names: list[str]) -> list[str]:
    """Roboflow's COCO: an unused category 0, annotation ids from 0, images beside the file."""
    _copied(pictures, folder / "valid", None, [])
    ordered, ids = alphabetical(names)
    categories = [{"id": 0, "name": "objects", "supercategory": "none"}]
    categories += [{"id": k, "name": name} for k, name in enumerate(ordered, 1)]
    content = _instances(
        pictures, categories, [k + 1 for k in ids], 0, lambda picture: picture.path.name
    )
    return _write(folder / "valid/_annotations.coco.json", content)


def cvat_coco(folder: Path, pictures: list[Picture], names: list[str]) -> list[str]:
    """CVAT's COCO 1.0: annotations/ beside images/train."""
    _copied(pictures, folder / "images/train", None, [])
    categories = [{"id": k, "name": name} for k, name in enumerate(names, 1)]
    ids = [*range(1, len(names) + 1)]
    content = _instances(pictures, categories, ids, 1, lambda picture: picture.path.name)
    return _write(folder / "annotations/instances_train.json", content)


def globox_coco(folder: Path, pictures: list[Picture], names: list[str]) -> list[str]:
    """globox' COCO: categories in alphabetical order, all ids start at 0."""
    _copied(pictures, folder, None, [])
    ordered, ids = alphabetical(names)
    categories = [{"id": k, "name": name} for k, name in enumerate(ordered)]
    content = _instances(pictures, categories, ids, 0, lambda picture: picture.path.name)
    return _write(folder / "coco.json", content)


def fiftyone_coco(folder: Path, pictures: list[Picture], names: list[str]) -> list[str]:
    """FiftyOne's COCO: labels.json beside the folder data/."""
    _copied(pictures, folder / "data", None, [])
    ordered, ids = alphabetical(names)
    categories = [{"id": k, "name": name, "supercategory": None} for k, name in enumerate(ordered)]
    content = _instances(pictures, categories, ids, 1, lambda picture: picture.path.name)
    return _write(folder / "labels.json", content)


def split_coco(folder: Path, pictures: list[Picture], names: list[str]) -> list[str]:
    """COCO files of users: val.json beside the folder val/."""
    _copied(pictures, folder / "val", None, [])
    categories = [{"id": k, "name": name} for k, name in enumerate(names, 1)]
    ids = [*range(1, len(names) + 1)]
    content = _instances(pictures, categories, ids, 1, lambda picture: picture.path.name)
    return _write(folder / "val.json", content)


def fiftyone_yolo(folder: Path, pictures: list[Picture], names: list[str]) -> list[str]:
    """FiftyOne's YOLOv4 format: images.txt and obj.names beside data/, no data file."""
    ordered, ids = alphabetical(names)
    _copied(pictures, folder / "data", folder / "data", ids)
    listed = "".join(f"data/{picture.path.name}\n" for picture in pictures)
    (folder / "images.txt").write_text(listed)
    (folder / "obj.names").write_text("\n".join(ordered))
    return ["--data", str(folder)]


def labelimg(folder: Path, pictures: list[Picture], names: list[str]) -> list[str]:
    """LabelImg's YOLO: labels and classes.txt beside the images."""
    _copied(pictures, folder, folder, [*range(len(names))])
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in names))
    return ["--data", str(folder)]


TOOLS: dict[str, Tool] = {
    tool.__name__: tool
    for tool in (
        cvat_yolo,
        label_studio_yolo,
        ultralytics,
        roboflow_yolo,
        roboflow_darknet,
        supervision_yolo,
        hank_ai,
        label_studio_coco,
        roboflow_coco,
        cvat_coco,
        globox_coco,
        fiftyone_coco,
        fiftyone_yolo,
        split_coco,
        labelimg,
    )
}
