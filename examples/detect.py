"""Detects persons in photos, draws their boxes, and writes all detections as YOLO labels.

yolotf demo && cd demo-output
python ../examples/detect.py
"""

from pathlib import Path

from PIL import Image

import yolotf

detector = yolotf.Detector("yolov4-tiny", "yolov4-tiny.weights", score_threshold=0.5)
images = ["bus.jpg", "zidane.jpg"]
for image, detections in zip(images, detector(images), strict=True):
    persons = detections.filter(classes="person")
    print(f"{image}: {len(persons)} of {len(detections)} are persons")
    for left, top, right, bottom in persons.xyxy.round().astype(int):
        print(f"  ({left}, {top})-({right}, {bottom})")
    persons.draw(image, f"persons-{image}")
    with Image.open(image) as opened:
        Path(image).with_suffix(".txt").write_text(
            detections.to_yolo((opened.height, opened.width))
        )
