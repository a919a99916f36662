"""A small set of labelled images, cropped from the two photographs of the official package.

`tests/data/darknet_map.json` has the crops, their labels (some are wrong on purpose), and the
figures that `darknet detector map` printed for them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from yolotf.cli.demo_data import DemoData

DATA = Path(__file__).parents[1] / "data"
FACTS = json.loads((DATA / "darknet_map.json").read_text(encoding="utf-8"))


def write_set(official: DemoData, folder: Path) -> Path:
    """Writes images, labels and two data files: obj.data, and hard.data with `difficult`."""
    pixels = {}
    for name in ("bus", "zidane"):
        with Image.open(getattr(official, name)) as image:
            pixels[name] = np.asarray(image.convert("RGB"))
    (folder / "hard").mkdir(parents=True)
    for number, picture in enumerate(FACTS["pictures"]):
        part = pixels[picture["of"]]
        if picture["crop"]:
            left, top, right, bottom = picture["crop"]
            part = part[top:bottom, left:right]
        part = {"": part, "h": part[:, ::-1], "v": part[::-1]}[picture["flip"]]
        Image.fromarray(np.ascontiguousarray(part)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(_lines(picture["labels"]))
        (folder / f"hard/{number}.txt").write_text(_lines(picture["difficult"]))
    count = len(FACTS["pictures"])
    for name, beside in (("valid", ""), ("hard", "hard/")):
        listed = [f"{folder}/{beside}{number}.png" for number in range(count)]
        (folder / f"{name}.txt").write_text("\n".join(listed) + "\n")
    text = f"classes=80\nvalid={folder}/valid.txt\nnames={official.names}\n"
    (folder / "obj.data").write_text(text)
    (folder / "hard.data").write_text(f"{text}difficult={folder}/hard.txt\n")
    return folder


def _lines(rows: list[list[Any]]) -> str:
    return "".join(" ".join(map(str, row)) + "\n" for row in rows)
