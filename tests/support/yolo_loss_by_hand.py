"""Darknet's deltas of a `[yolo]` section in plain Python, loop for loop (AlexeyAB yolo_layer.c).

Shares no line with yolotf; `tests/graphs/test_yolo_loss.py` compares the two.
"""

from math import atan, exp, isfinite, log, pi, sqrt

import numpy as np


def sigmoid(x):
    return 1 / (1 + exp(-x))


def overlap(x1, w1, x2, w2):
    return min(x1 + w1 / 2, x2 + w2 / 2) - max(x1 - w1 / 2, x2 - w2 / 2)


def box_iou(a, b):
    w, h = overlap(a[0], a[2], b[0], b[2]), overlap(a[1], a[3], b[1], b[3])
    inside = 0 if w < 0 or h < 0 else w * h
    union = a[2] * a[3] + b[2] * b[3] - inside
    return 0 if inside == 0 or union == 0 else inside / union


def box_giou(a, b):
    w = max(a[0] + a[2] / 2, b[0] + b[2] / 2) - min(a[0] - a[2] / 2, b[0] - b[2] / 2)
    h = max(a[1] + a[3] / 2, b[1] + b[3] / 2) - min(a[1] - a[3] / 2, b[1] - b[3] / 2)
    x, y = overlap(a[0], a[2], b[0], b[2]), overlap(a[1], a[3], b[1], b[3])
    union = a[2] * a[3] + b[2] * b[3] - (0 if x < 0 or y < 0 else x * y)
    return box_iou(a, b) - (w * h - union) / (w * h)


def slopes(pred, truth, kind):
    """Returns dx, dy, dw and dh of `dx_box_iou`."""
    pt, pb = pred[1] - pred[3] / 2, pred[1] + pred[3] / 2
    pl, pr = pred[0] - pred[2] / 2, pred[0] + pred[2] / 2
    tt, tb = truth[1] - truth[3] / 2, truth[1] + truth[3] / 2
    tl, tr = truth[0] - truth[2] / 2, truth[0] + truth[2] / 2
    area, other = (pb - pt) * (pr - pl), (tb - tt) * (tr - tl)
    ih, iw = min(pb, tb) - max(pt, tt), min(pr, tr) - max(pl, tl)
    inside = iw * ih
    union = area + other - inside
    s = (pred[0] - truth[0]) ** 2 + (pred[1] - truth[1]) ** 2
    cw, ch = max(pr, tr) - min(pl, tl), max(pb, tb) - min(pt, tt)
    hull = cw * ch
    x_t, x_b, x_l, x_r = -(pr - pl), pr - pl, -(pb - pt), pb - pt
    i_t = -iw if pt > tt else 0
    i_b = iw if pb < tb else 0
    i_l = -ih if pl > tl else 0
    i_r = ih if pr < tr else 0
    u_t, u_b, u_l, u_r = x_t - i_t, x_b - i_b, x_l - i_l, x_r - i_r
    c_t = -cw if pt < tt else 0
    c_b = cw if pb > tb else 0
    c_l = -ch if pl < tl else 0
    c_r = ch if pr > tr else 0
    dt = db = dl = dr = 0
    if union > 0:
        dt, db, dl, dr = (
            (union * i - inside * u) / union**2
            for i, u in ((i_t, u_t), (i_b, u_b), (i_l, u_l), (i_r, u_r))
        )
    if kind == "giou":
        more = [
            (hull * u - union * c) / hull**2
            for u, c in ((u_t, c_t), (u_b, c_b), (u_l, c_l), (u_r, c_r))
        ]
        if iw <= 0 or ih <= 0:
            dt, db, dl, dr = more
        else:
            dt, db, dl, dr = (a + b for a, b in zip((dt, db, dl, dr), more, strict=True))
    dx, dy, dw, dh = dl + dr, dt + db, dr - dl, db - dt
    if kind in ("diou", "ciou"):
        c = cw * cw + ch * ch
        cw_dx = int(pr > tr) - int(pl < tl)
        cw_dw = 0.5 * int(pr > tr) + 0.5 * int(pl < tl)
        ch_dy = int(pb > tb) - int(pt < tt)
        ch_dh = 0.5 * int(pb > tb) + 0.5 * int(pt < tt)
        mx = (2 * (truth[0] - pred[0]) * c - 2 * cw * cw_dx * s) / c**2
        my = (2 * (truth[1] - pred[1]) * c - 2 * ch * ch_dy * s) / c**2
        mw, mh = 2 * cw * cw_dw * s / c**2, 2 * ch * ch_dh * s / c**2
        if kind == "ciou":
            angle = atan(truth[2] / truth[3]) - atan(pred[2] / pred[3])
            ar_loss = 4 / pi**2 * angle * angle
            alpha = ar_loss / (1 - inside / union + ar_loss + 0.000001)
            mw += alpha * 8 / pi**2 * angle * pred[3]
            mh += alpha * -8 / pi**2 * angle * pred[2]
        if iw <= 0 or ih <= 0:
            dx, dy, dw, dh = mx, my, mw, mh
        else:
            dx, dy, dw, dh = dx + mx, dy + my, dw + mw, dh + mh
    return dx, dy, dw, dh


def deltas(raw, truths, anchors, mask, size, classes, **o):
    """Returns [batch, rows, columns, anchors, 5 + classes] of `process_batch` for each image."""
    batch, rows, columns = raw.shape[:3]
    x = raw.astype(np.float64).reshape(batch, rows, columns, len(mask), 5 + classes)
    out = x.copy()
    new, scale = o.get("new_coords", 0), o.get("scale_x_y", 1)
    squash = np.vectorize(sigmoid)
    if not new:
        out[..., :2] = squash(x[..., :2])
        out[..., 4:] = squash(x[..., 4:])
    out[..., :2] = out[..., :2] * scale - 0.5 * (scale - 1)
    delta = np.zeros_like(out)
    kind, iou_normalizer = o.get("iou_loss", "mse"), o.get("iou_normalizer", 0.75)
    obj_normalizer, smooth = o.get("obj_normalizer", 1), o.get("label_smooth_eps", 0)
    width, height = size

    def predicted(b, j, i, m):
        v = out[b, j, i, m]
        aw, ah = anchors[mask[m]]
        if new:
            w, h = v[2] * v[2] * 4 * aw / width, v[3] * v[3] * 4 * ah / height
        else:
            w, h = exp(v[2]) * aw / width, exp(v[3]) * ah / height
        return (i + v[0]) / columns, (j + v[1]) / rows, w, h

    def box(truth, b, j, i, m):
        v, d = out[b, j, i, m], delta[b, j, i, m]
        aw, ah = anchors[mask[m]]
        if kind == "mse":
            tw, th = log(truth[2] * width / aw), log(truth[3] * height / ah)
            if new:
                tw, th = sqrt(truth[2] * width / (4 * aw)), sqrt(truth[3] * height / (4 * ah))
            target = truth[0] * columns - i, truth[1] * rows - j, tw, th
            for k in range(4):
                d[k] += (2 - truth[2] * truth[3]) * (target[k] - v[k]) * iou_normalizer
            return
        gradient = list(slopes(predicted(b, j, i, m), truth, kind))
        if not new:
            gradient[2] *= exp(v[2])
            gradient[3] *= exp(v[3])
        most = o.get("max_delta", float("inf"))
        for k in range(4):
            value = gradient[k] * iou_normalizer
            d[k] += min(max(value if isfinite(value) else 0, -most), most)

    def klass(b, j, i, m, number):
        v, d = out[b, j, i, m, 5:], delta[b, j, i, m, 5:]
        if d[number]:
            d[number] = (1 * (1 - smooth) + 0.5 * smooth if smooth else 1) - v[number]
            return
        for k in range(classes):
            y = float(k == number)
            if smooth:
                y = y * (1 - smooth) + 0.5 * smooth
            d[k] = y - v[k]

    def assign(truth, number, b, j, i, m):
        box(truth, b, j, i, m)
        wanted = obj_normalizer * (1 - out[b, j, i, m, 4])
        if not o.get("objectness_smooth") or delta[b, j, i, m, 4] == 0:
            delta[b, j, i, m, 4] = wanted
        klass(b, j, i, m, number)

    for b in range(batch):
        listed = []
        for row in truths[b]:
            if not row[1]:
                break
            if 0 <= int(row[0]) < classes:
                listed.append((int(row[0]), tuple(float(v) for v in row[1:])))
        for j, i, m in np.ndindex(rows, columns, len(mask)):
            v = out[b, j, i, m]
            match = 0
            for _, truth in listed:
                iou = box_iou(predicted(b, j, i, m), truth)
                if iou > match and (v[5:] > 0.25).any():
                    match = iou
            d = obj_normalizer * (0 - v[4])
            if match > o.get("ignore_thresh", 0.5):
                smoothed = max(d, obj_normalizer * (match - v[4]))
                d = smoothed if o.get("objectness_smooth") else 0
            delta[b, j, i, m, 4] = d
        for number, truth in listed:
            i, j = int(truth[0] * columns), int(truth[1] * rows)
            alone = (0, 0, truth[2], truth[3])
            best_iou, best_anchor = 0, 0
            for anchor, (aw, ah) in enumerate(anchors):
                iou = box_iou((0, 0, aw / width, ah / height), alone)
                if iou > best_iou:
                    best_iou, best_anchor = iou, anchor
            if best_anchor in mask:
                assign(truth, number, b, j, i, mask.index(best_anchor))
            for anchor, (aw, ah) in enumerate(anchors):
                if anchor in mask and anchor != best_anchor and o.get("iou_thresh", 1) < 1:
                    similar = box_giou if o.get("iou_thresh_kind") == "giou" else box_iou
                    if similar((0, 0, aw / width, ah / height), alone) > o["iou_thresh"]:
                        assign(truth, number, b, j, i, mask.index(anchor))
        if o.get("iou_thresh", 1) < 1:
            for place in np.ndindex(rows, columns, len(mask)):
                d = delta[b][place]
                several = (d[5:] > 0).sum()
                if d[4] != 0 and several > 0:
                    d[:4] /= several
    return delta
