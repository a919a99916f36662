"""Converts a .weights file to ONNX and runs the model with onnxruntime.

pip install "yolotf[onnx]" onnxruntime
yolotf demo && cd demo-output
python ../examples/convert.py
"""

import numpy as np
import onnxruntime
from PIL import Image

import yolotf

# With decode, the model outputs boxes (relative to the input, 0..1) and scores, not raw heads.
# A file that exists is not replaced.
conversion = yolotf.convert(
    "yolov4-tiny.weights", "yolov4-tiny", "yolov4-tiny.onnx", decode=True, overwrite=False
)
print(conversion)

session = onnxruntime.InferenceSession("yolov4-tiny.onnx", providers=["CPUExecutionProvider"])
with Image.open("bus.jpg") as opened:
    image = np.asarray(opened.convert("RGB").resize((416, 416)), np.float32) / 255
boxes, scores = session.run(None, {"images": image.transpose(2, 0, 1)[None]})
best = scores[0].max(axis=1).argmax()
print(f"class {scores[0, best].argmax()}, score {scores[0, best].max():.2f}, box {boxes[0, best]}")
