"""The file of anchors that old converters wrote beside a model."""

from __future__ import annotations

from yolotf.darknet.cfg import Network
from yolotf.files import atomic
from yolotf.files.paths import StrPath


def write_anchors(network: Network, path: StrPath, *, overwrite: bool = True) -> bool:
    """Writes the anchors of the last head as one line in pixels, as old converters did.

    `[yolo]` gives anchors in pixels; those of `[region]`, in grid cells, are multiplied by the
    network's stride. Returns whether the network has a head with anchors.

    Args:
        network: the network.
        path: the output file, written atomically.
        overwrite: False refuses to replace an existing file.

    Raises:
        OSError: the file cannot be written, or exists and `overwrite` is False.
    """
    head = network.heads[-1] if network.heads else None
    option = head.section.option("anchors") if head else None
    if head is None or option is None:
        return False
    text = option.value
    if head.anchors_in_cells:
        stride = network.input_shape.height // head.input_shape.height
        text = ", ".join(str(float(value) * stride) for value in text.split(","))
    atomic.write(path, f"{text}\n".encode(), overwrite=overwrite)
    return True
