"""Serves from several threads while the weights are replaced; a bad file changes nothing.

yolotf demo && cd demo-output
python ../examples/reload.py
"""

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yolotf

detector = yolotf.Detector("yolov4-tiny", "yolov4-tiny.weights")
with ThreadPoolExecutor(4) as pool:
    answers = [pool.submit(detector, "bus.jpg") for _ in range(8)]
    detector.reload("yolov4-tiny.weights")  # running requests finish with the old weights
    print({len(answer.result()) for answer in answers}, "detections an image")

with tempfile.TemporaryDirectory() as folder:
    broken = Path(folder, "broken.weights")
    broken.write_bytes(Path("yolov4-tiny.weights").read_bytes()[:1_000_000])
    try:
        detector.reload(broken)
    except yolotf.YolotfError as error:
        print(error)
print(len(detector("bus.jpg")), "detections, still of", detector.weights.path)
