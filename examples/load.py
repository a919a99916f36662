"""Loads a .weights file into a Keras model, and diagnoses a file that does not match.

yolotf demo && cd demo-output
python ../examples/load.py
"""

import yolotf

network = yolotf.network("yolov4-tiny")  # or yolotf.parse_cfg("yolov4-tiny.cfg")
model = yolotf.build_model(network)
print(yolotf.load_darknet_weights(model, "yolov4-tiny.weights"))

# A model with three other classes: everything but the heads comes from the file.
custom = yolotf.build_model(yolotf.network("yolov4-tiny", classes=3))
try:
    yolotf.load_darknet_weights(custom, "yolov4-tiny.weights")
except yolotf.WeightsMismatch as error:
    print(error.diagnosis.summary())
report = yolotf.load_darknet_weights(
    custom, "yolov4-tiny.weights", network=network, skip_mismatch=True
)
print(f"loaded {len(report.loaded)} layers, skipped {len(report.skipped)}")
