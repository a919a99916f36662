"""A detector past one machine: an application for Ray Serve, and detection in a Ray Data set.

    serve run yolotf.ray:app network=yolov4 weights=yolov4.weights class_names=coco.names

or, with a config file that names `yolotf.ray:app` and its `args`, `serve deploy`. Needs
`pip install "yolotf[ray]"`; nothing else of yolotf imports this package.
"""

from yolotf.ray.dataset import detect_dataset
from yolotf.ray.service import DetectorReplica, app
from yolotf.ray.settings import Settings

__all__ = ["DetectorReplica", "Settings", "app", "detect_dataset"]
