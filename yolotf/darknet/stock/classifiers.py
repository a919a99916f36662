"""Classifiers for the 1000 classes of ImageNet."""

from __future__ import annotations

from yolotf.darknet.stock.blocks import CSP_DARKNET53, csp_stage, darknet53
from yolotf.darknet.stock.builder import Build, Builder, Value, classifier


def _class_conv(net: Builder, activation: str = "linear") -> None:
    net.plain_conv(net.classes, 1, activation=activation)


def softmax(net: Builder, *, cost: bool = True) -> None:
    """Adds the end of a classifier; `cost` adds the section that training needs."""
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
    softmax(net)


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
    softmax(net)


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
    softmax(net)


@classifier("darknet53", 256)
@classifier("darknet53_448", 448)
def _darknet53_classifier(net: Builder) -> None:
    darknet53(net)
    net.add("avgpool")
    _class_conv(net)
    softmax(net, cost=False)


@classifier("csdarknet53-omega", 256)
def _csdarknet53(net: Builder) -> None:
    net.activation = "mish"
    net.conv(32, 3)
    csp_stage(net, 64, 1, halve=False)
    for stage in CSP_DARKNET53[1:]:
        csp_stage(net, *stage)
    net.add("avgpool")
    _class_conv(net)
    softmax(net, cost=False)


@classifier("alexnet", 227, stride=1)
def _alexnet(net: Builder) -> None:
    net.activation = "relu"
    net.plain_conv(96, 11, stride=4, pad=False)
    net.add("maxpool", size=3, stride=2, padding=0)
    net.plain_conv(256, 5)
    net.add("maxpool", size=3, stride=2, padding=0)
    for filters in (384, 384, 256):
        net.plain_conv(filters, 3)
    net.add("maxpool", size=3, stride=2, padding=0)
    _dense(net)


@classifier("vgg-16", 256)
def _vgg16(net: Builder) -> None:
    net.activation = "relu"
    net.add("crop", crop_height=224, crop_width=224, flip=1, exposure=1, saturation=1, angle=0)
    for filters, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            net.plain_conv(filters, 3)
        net.maxpool(2, 2)
    _dense(net)


def _dense(net: Builder) -> None:
    """Adds two dense layers, and one for the classes."""
    for _ in range(2):
        net.add("connected", output=4096, activation="relu")
        net.add("dropout", probability=0.5)
    net.add("connected", output=net.classes, activation="linear")
    softmax(net)


@classifier("extraction", 224)
def _extraction(net: Builder) -> None:
    net.conv(64, 7, stride=2)
    net.maxpool(2, 2)
    net.conv(192, 3)
    net.maxpool(2, 2)
    for stage in (((128, 256), (256, 512)), ((256, 512),) * 4 + ((512, 1024),), ((512, 1024),) * 2):
        for narrow, wide in stage:
            net.conv(narrow, 1)
            net.conv(wide, 3)
        if stage[0] != stage[-1]:
            net.maxpool(2, 2)
    _class_conv(net, "leaky")
    net.add("avgpool")
    softmax(net)


@classifier("densenet201", 256)
def _densenet201(net: Builder) -> None:
    net.conv(64, 7, stride=2)
    net.maxpool(2, 2)
    for blocks, filters in ((6, 128), (12, 256), (48, 512), (32, 0)):
        for _ in range(blocks):
            before = net.last
            net.conv(128, 1)
            net.conv(32, 3)
            net.route(net.last, before)
        if filters:
            net.conv(filters, 1)
            net.maxpool(2, 2)
    _class_conv(net)
    net.add("avgpool")
    softmax(net)


def _resnet(*blocks: int, groups: int = 1) -> Build:
    """Returns a build of residual stages; blocks end 4 times as wide, or 8 times with groups."""
    grouped: dict[str, Value] = {"groups": groups} if groups > 1 else {}

    def build(net: Builder) -> None:
        net.conv(64, 7, stride=2)
        net.maxpool(2, 2)
        for stage, count in enumerate(blocks):
            for block in range(count):
                before = net.last
                filters = 64 << stage
                net.conv(filters, 1)
                net.conv(filters, 3, stride=2 if stage and not block else 1, **grouped)
                net.conv((8 if grouped else 4) * filters, 1, activation="linear")
                # Also around the first block of a stage: Darknet adds the channels in common.
                net.shortcut(before, "leaky")
        if grouped:
            net.add("avgpool")
            _class_conv(net)
            softmax(net, cost=False)
        else:
            _class_conv(net)
            net.add("avgpool")
            softmax(net)

    return build


classifier("resnet50", 256)(_resnet(3, 4, 6, 3))
classifier("resnet101", 256)(_resnet(3, 4, 23, 3))
classifier("resnet152", 256)(_resnet(3, 8, 36, 3))
classifier("resnext152-32x4d", 256)(_resnet(3, 8, 36, 3, groups=32))
