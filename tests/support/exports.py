"""Networks to export, and what their exports must return."""

import numpy as np

from support import numpy_loader
from support.cfgs import conv, net, normalized, yolo
from support.networks_of_sections import SMALL
from yolotf import Detector, parse_cfg

HEAD = conv(18) + yolo(4, "20,9, 30,30", mask="0,1", num=2)
BODY = net(32, 64) + normalized(8, 3, stride=2) + normalized(8, 3, "mish")
HEADS = {
    "two heads": SMALL,
    "letter_box": SMALL.replace("channels=3", "channels=3\nletter_box=1", 1),
    "new_coords": BODY
    + conv(18, activation="logistic")
    + yolo(4, "20,9, 30,30", mask="0,1", num=2, new_coords=1, scale_x_y=2),
    "Gaussian_yolo": BODY
    + conv(26)
    + "[Gaussian_yolo]\nmask=0,1\nanchors=20,9, 30,30\nclasses=4\nnum=2\n",
    "region": BODY
    + conv(18)
    + "[region]\nanchors=1,2, 3,4\nclasses=4\nnum=2\ncoords=4\nsoftmax=1\n",
    "region without softmax": BODY
    + conv(18)
    + "[region]\nanchors=1,2, 3,4\nclasses=4\nnum=2\ncoords=4\nsoftmax=0\n",
    "detection": BODY
    + "[avgpool]\n[connected]\noutput=126\nactivation=linear\n"
    + "[detection]\nclasses=4\ncoords=4\nside=3\nnum=2\nsoftmax=0\nsqrt=1\n",
}
CLASSIFIER = net(32, 40) + normalized(8, 3, stride=2) + "[avgpool]\n" + conv(5) + "[softmax]\n"


def exported(text, folder, kind=Detector, **options):
    """A detector or classifier, and the folder of its SavedModel."""
    (folder / "a.weights").write_bytes(numpy_loader.random_file(text, 3))
    made = kind(parse_cfg(text), folder / "a.weights", **options)
    made.export(folder / "saved")
    return made, folder / "saved"


def images(batch=2):
    """Random images of a size that has to be changed."""
    return np.random.default_rng(3).integers(0, 256, (batch, 40, 50, 3)).astype(np.uint8)


def assert_detections(answer, detections, box_tolerance=3e-4):
    """Compares what an export returned with a detector's detections; boxes in pixels."""
    assert answer["counts"].tolist() == [len(rows) for rows in detections]
    assert min(map(len, detections)) > 1
    for number, expected in enumerate(detections):
        rows = slice(len(expected))
        np.testing.assert_allclose(answer["boxes"][number, rows], expected.xyxy, atol=box_tolerance)
        np.testing.assert_allclose(answer["scores"][number, rows], expected.scores, atol=1e-5)
        np.testing.assert_array_equal(answer["classes"][number, rows], expected.classes)
