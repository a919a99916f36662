"""Evaluates a detector on labelled images, by Darknet's mean average precision.

yolotf demo && cd demo-output
python ../examples/evaluate.py
"""

import tempfile
from pathlib import Path

from PIL import Image

import yolotf

# A data set in Darknet's layout, in a new folder. Confident detections stand in for labels made by
# hand.
folder = Path(tempfile.mkdtemp(prefix="set-", dir="."))
labeler = yolotf.Detector("yolov4-tiny", "yolov4-tiny.weights", score_threshold=0.6)
for name in ("bus.jpg", "zidane.jpg"):
    with Image.open(name) as opened:
        opened.save(folder / name, quality=95)
        (folder / name).with_suffix(".txt").write_text(
            labeler(name).to_yolo((opened.height, opened.width))
        )
(folder / "valid.txt").write_text(f"{folder}/bus.jpg\n{folder}/zidane.jpg\n")
(folder / "obj.data").write_text(f"classes=80\nvalid={folder}/valid.txt\nnames=coco.names\n")

score = yolotf.evaluate("yolov4-tiny", "yolov4-tiny.weights", folder / "obj.data")
for row in score.classes:
    if row.truths:
        print(f"{row.name}: AP {row.ap:.2f}, {row.tp} of {row.truths} found, {row.fp} false")
