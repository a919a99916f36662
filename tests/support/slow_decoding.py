"""Decodes and suppresses boxes one at a time in Python floats, in Darknet's loops."""

import math

import numpy as np

from yolotf.darknet.cfg import parse_cfg

CLASSES = 4


def network_of(*heads, height=64, width=96, net=""):
    """Returns a network with a convolution for each head, all reading the image at stride 32."""
    text = f"[net]\nwidth={width}\nheight={height}\nchannels=3\n{net}\n"
    for number, (filters, head) in enumerate(heads):
        if number:
            text += "[route]\nlayers=0\n"
        stride = 32 if not number else 1
        text += f"[convolutional]\nfilters={filters}\nsize=1\nstride={stride}\n"
        text += f"activation=linear\n{head}\n"
    return parse_cfg(text)


def yolo(extra="", anchors="10,13, 40,30, 33,23", mask="0,2", kind="yolo"):
    entries = CLASSES + (9 if kind == "Gaussian_yolo" else 5)
    head = f"[{kind}]\nmask={mask}\nanchors={anchors}\nclasses={CLASSES}\nnum=3\n{extra}"
    return entries * len(mask.split(",")), head


def region(extra="softmax=1"):
    head = f"[region]\nanchors=1.1,1.2, 2.5,0.7\nclasses={CLASSES}\ncoords=4\nnum=2\n{extra}"
    return 2 * (5 + CLASSES), head


def raw_for(network, batch=2, seed=0, scale=1.5):
    random = np.random.default_rng(seed)
    return [
        random.normal(0, scale, (batch, *head.input_shape)).astype(np.float32)
        for head in network.heads
    ]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def shares(values):
    exponents = [math.exp(value - max(values)) for value in values]
    return [exponent / sum(exponents) for exponent in exponents]


def slow_decode(raw, head, input_height, input_width):
    """Returns [B][N] of (box, objectness, probabilities), all in Python floats."""
    batch, rows, columns, _ = raw.shape
    entries = head.coords + 1 + head.classes
    pictures = []
    for b in range(batch):
        boxes = []
        for row in range(rows):
            for column in range(columns):
                for anchor, (anchor_w, anchor_h) in enumerate(head.anchors):
                    x = [
                        float(v)
                        for v in raw[b, row, column, anchor * entries : (anchor + 1) * entries]
                    ]
                    boxes.append(
                        slow_box(
                            x,
                            head,
                            (row, column, rows, columns),
                            (anchor_w, anchor_h),
                            (input_height, input_width),
                        )
                    )
        pictures.append(boxes)
    return pictures


def slow_box(x, head, place, anchor, input_size):
    row, column, rows, columns = place
    if head.type == "region":
        box = (
            (column + sigmoid(x[0])) / columns,
            (row + sigmoid(x[1])) / rows,
            math.exp(x[2]) * anchor[0] / columns,
            math.exp(x[3]) * anchor[1] / rows,
        )
        return box, sigmoid(x[4]), shares(x[5:]) if head.softmax else x[5:]
    offset = -0.5 * (head.scale_x_y - 1)
    if head.type == "Gaussian_yolo":
        centre_x, centre_y = sigmoid(x[0]), sigmoid(x[2])
        width, height = math.exp(x[4]) * anchor[0], math.exp(x[6]) * anchor[1]
        doubt = sum(sigmoid(x[i]) for i in (1, 3, 5, 7)) / 4
        objectness = sigmoid(x[8])
        probabilities = [sigmoid(v) * (1 - doubt) for v in x[9:]]
    elif head.new_coords:
        centre_x, centre_y = x[0], x[1]
        width, height = x[2] * x[2] * 4 * anchor[0], x[3] * x[3] * 4 * anchor[1]
        objectness, probabilities = x[4], x[5:]
    else:
        centre_x, centre_y = sigmoid(x[0]), sigmoid(x[1])
        width, height = math.exp(x[2]) * anchor[0], math.exp(x[3]) * anchor[1]
        objectness, probabilities = sigmoid(x[4]), [sigmoid(v) for v in x[5:]]
    width, height = width / input_size[1], height / input_size[0]
    centre_x = (column + centre_x * head.scale_x_y + offset) / columns
    centre_y = (row + centre_y * head.scale_x_y + offset) / rows
    point = head.section.option("yolo_point")
    move = {"left_top": 0.5, "right_bottom": -0.5}.get(point.value if point else "", 0)
    box = (centre_x + move * width, centre_y + move * height, width, height)
    return box, objectness, probabilities


def slow_overlap(a, b, kind, beta):
    def edges(box):
        x, y, w, h = box[:4]
        return x - w / 2, x + w / 2, y - h / 2, y + h / 2

    (left_a, right_a, top_a, bottom_a), (left_b, right_b, top_b, bottom_b) = edges(a), edges(b)
    w = min(right_a, right_b) - max(left_a, left_b)
    h = min(bottom_a, bottom_b) - max(top_a, top_b)
    common = w * h if w > 0 and h > 0 else 0
    union = a[2] * a[3] + b[2] * b[3] - common
    iou = common / union if common and union else 0
    diagonal = (max(right_a, right_b) - min(left_a, left_b)) ** 2
    diagonal += (max(bottom_a, bottom_b) - min(top_a, top_b)) ** 2
    if kind == "default" or diagonal == 0:
        return iou
    distance = (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2
    return iou - (distance / diagonal) ** (0.6 if kind == "greedynms" else beta)


def slow_suppress(pairs, threshold, kind, beta):
    """Returns the pairs (score, class, box) that do_nms_sort or diounms_sort keep, best first."""
    left = []
    for class_id in {pair[1] for pair in pairs}:
        queue = sorted((p for p in pairs if p[1] == class_id), key=lambda p: -p[0])
        while queue:
            best, *rest = queue
            left.append(best)
            queue = [
                other for other in rest if slow_overlap(best[2], other[2], kind, beta) <= threshold
            ]
    return sorted(left, key=lambda p: -p[0])


HEADS = {
    "yolo": yolo(),
    "yolo_scale_x_y": yolo("scale_x_y=1.2"),
    "yolo_new_coords": yolo("scale_x_y=2.0\nnew_coords=1"),
    "gaussian": yolo("scale_x_y=1.05", kind="Gaussian_yolo"),
    "gaussian_left_top": yolo("yolo_point=left_top", kind="Gaussian_yolo"),
    "gaussian_right_bottom": yolo("yolo_point=right_bottom", kind="Gaussian_yolo"),
    "region": region(),
    "region_without_softmax": region("softmax=0"),
}


def pairs_of(network, raws, size, threshold):
    """Returns, for each image, (score, class, box) above the threshold from the slow decoder."""
    pictures = [[] for _ in range(raws[0].shape[0])]
    for raw, head in zip(raws, network.heads, strict=True):
        for picture, boxes in zip(pictures, slow_decode(raw, head, *size), strict=True):
            for box, objectness, probabilities in boxes:
                if head.type != "region" and not objectness > threshold:
                    continue
                for class_id, probability in enumerate(probabilities):
                    if objectness * probability > threshold:
                        picture.append((objectness * probability, class_id, box))
    return pictures
