"""EfficientNet: a classifier, and a detector with the same backbone."""

from __future__ import annotations

from yolotf.darknet.stock.blocks import V3_HEAD, prn_heads
from yolotf.darknet.stock.builder import Builder, classifier, detector
from yolotf.darknet.stock.classifiers import softmax

# Expanded filters, kernel size, stride, squeezed filters, output filters.
_BLOCKS = (
    (32, 3, 1, 8, 16),
    (96, 3, 2, 16, 24),
    (144, 3, 1, 8, 24),
    (144, 5, 2, 8, 40),
    (192, 5, 1, 16, 40),
    (192, 3, 1, 16, 80),
    (384, 3, 1, 24, 80),
    (384, 3, 1, 24, 80),
    (384, 5, 2, 24, 112),
    (576, 5, 1, 32, 112),
    (576, 5, 1, 32, 112),
    (576, 5, 2, 32, 192),
    (960, 5, 1, 64, 192),
    (960, 5, 1, 64, 192),
    (960, 5, 1, 64, 192),
    (960, 3, 1, 64, 320),
)


@classifier("efficientnet_b0", 224)
def _efficientnet_b0(net: Builder) -> None:
    _backbone(net, dropout=0.2)
    net.add("avgpool")
    net.add("dropout", probability=0.2)
    net.plain_conv(net.classes, 1, pad=False, activation="linear")
    softmax(net, cost=False)


@detector("enet-coco", 416, max_batches=500200)
def _enet_coco(net: Builder) -> None:
    fine = _backbone(net, dropout=0)
    net.activation = "leaky"
    prn_heads(net, fine, **V3_HEAD | {"random": 0})


def _backbone(net: Builder, dropout: float) -> int:
    """Adds the backbone; returns the layer at 1/16 of the image size with the most channels."""
    net.activation = "swish"
    net.conv(32, 3, stride=2)
    before, fine = 32, -1
    for expanded, size, stride, squeezed, filters in _BLOCKS:
        source = net.last
        expansion = net.conv(expanded, 1, pad=0)
        if stride == 2:
            fine = expansion
        net.conv(expanded, size, stride, groups=expanded)
        net.add("avgpool")
        net.plain_conv(squeezed, 1, pad=False)
        net.plain_conv(expanded, 1, pad=False, activation="logistic")
        net.add("scale_channels", **{"from": -4})
        net.conv(filters, 1, pad=0, activation="linear")
        if stride == 1 and filters == before:
            net.add("dropout", probability=dropout)
            net.shortcut(source)
        before = filters
    net.conv(1280, 1, pad=0)
    return fine
