"""Distributed detection: an application for Ray Serve, and detection in a Ray Data dataset.

    serve run yolotf.ray:app network=yolov4 weights=yolov4.weights class_names=coco.names

or `serve deploy` with a config file that names `yolotf.ray:app` and its `args`. Needs
`pip install "yolotf[ray]"`; nothing else in yolotf imports this package.
"""

from yolotf.ray.dataset import detect_dataset
from yolotf.ray.service import DetectorReplica, app
from yolotf.ray.settings import Settings

__all__ = ["DetectorReplica", "Settings", "app", "detect_dataset"]
