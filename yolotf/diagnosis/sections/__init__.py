"""How options of sections may differ, one file per family as in `yolotf.darknet.sections`.

Importing this package registers the functions; see `yolotf.diagnosis.edit_registry`.
"""

from yolotf.diagnosis.sections import convolutional, dense, joins, resampling

__all__ = ["convolutional", "dense", "joins", "resampling"]
