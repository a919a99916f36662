"""Detects persons in photos, draws their boxes, and writes all detections as YOLO labels.

Writes into a new folder: beside the photos, labels made by hand may have the same names.

yolotf demo && cd demo-output
python ../examples/detect.py
"""

import tempfile
from pathlib import Path

from PIL import Image

import yolotf

detector = yolotf.Detector("yolov4-tiny", "yolov4-tiny.weights", score_threshold=0.5)
output = Path(tempfile.mkdtemp(prefix="detected-", dir="."))
images = ["bus.jpg", "zidane.jpg"]
for image, detections in zip(images, detector(images), strict=True):
    persons = detections.filter(classes="person")
    print(f"{image}: {len(persons)} of {len(detections)} are persons")
    for left, top, right, bottom in persons.xyxy.round().astype(int):
        print(f"  ({left}, {top})-({right}, {bottom})")
    persons.draw(image, output / image)
    with Image.open(image) as opened:
        (output / image).with_suffix(".txt").write_text(
            detections.to_yolo((opened.height, opened.width))
        )
print(f"drawings and labels: {output}")
