"""Classifiers, made for the 1000 classes of ImageNet."""

from __future__ import annotations

from yolotf.darknet.stock.blocks import darknet53
from yolotf.darknet.stock.builder import Build, Builder, classifier


def _class_conv(net: Builder, activation: str = "linear") -> None:
    net.add(
        "convolutional",
        filters=net.classes,
        size=1,
        stride=1,
        pad=1,
        activation=activation,
    )


def _softmax(net: Builder, *, cost: bool = True) -> None:
    net.add("softmax", groups=1)
    if cost:
        net.add("cost", type="sse")


@classifier("darknet", 224)
def _darknet_reference(net: Builder) -> None:
    for filters in (16, 32, 64, 128, 256):
        net.conv(filters, 3)
        net.maxpool(2, 2)
    net.conv(512, 3)
    net.add("maxpool", size=2, stride=2, padding=1)
    net.conv(1024, 3)
    _class_conv(net, "leaky")
    net.add("avgpool")
    _softmax(net)


@classifier("tiny", 224)
def _tiny_classifier(net: Builder) -> None:
    for filters in (16, 32):
        net.conv(filters, 3)
        net.maxpool(2, 2)
    for narrow, wide in ((16, 128), (32, 256), (64, 512)):
        for _ in range(2):
            net.conv(narrow, 1)
            net.conv(wide, 3)
        if wide < 512:
            net.maxpool(2, 2)
    net.conv(128, 1)
    _class_conv(net)
    net.add("avgpool")
    _softmax(net)


@classifier("darknet19", 224)
@classifier("darknet19_448", 448)
def _darknet19(net: Builder) -> None:
    for filters in (32, 64):
        net.conv(filters, 3)
        net.maxpool(2, 2)
    for filters, count in ((128, 1), (256, 1), (512, 2), (1024, 2)):
        net.conv(filters, 3)
        for _ in range(count):
            net.conv(filters // 2, 1)
            net.conv(filters, 3)
        if filters < 1024:
            net.maxpool(2, 2)
    _class_conv(net)
    net.add("avgpool")
    _softmax(net)


@classifier("darknet53", 256)
@classifier("darknet53_448", 448)
def _darknet53_classifier(net: Builder) -> None:
    darknet53(net)
    net.add("avgpool")
    _class_conv(net)
    _softmax(net, cost=False)


def _resnet(*blocks: int) -> Build:
    def build(net: Builder) -> None:
        net.conv(64, 7, stride=2)
        net.maxpool(2, 2)
        for stage, count in enumerate(blocks):
            for block in range(count):
                before = net.last
                filters = 64 << stage
                net.conv(filters, 1)
                net.conv(filters, 3, stride=2 if stage and not block else 1)
                net.activation = "linear"
                net.conv(4 * filters, 1)
                net.activation = "leaky"
                # Around the first block of a stage, too: Darknet adds over common channels.
                net.add("shortcut", **{"from": before - len(net.sections)}, activation="leaky")
        _class_conv(net)
        net.add("avgpool")
        _softmax(net)

    return build


classifier("resnet50", 256)(_resnet(3, 4, 6, 3))
classifier("resnet101", 256)(_resnet(3, 4, 23, 3))
classifier("resnet152", 256)(_resnet(3, 8, 36, 3))
