#!/usr/bin/env bash
# pycocotools 2.0.11: an annotation whose id is 0 is never matched, and no word is said.
#
# Label Studio, globox and Roboflow number annotations from 0. COCOeval keeps the id of the matched
# annotation in an array of zeros (`dtMatches`) and reads 0 as "none", so that a perfect detection of
# annotation 0 counts as a false positive. With ids from 1 the same data has AP 1.
# Seen: AP 0.000 for ids from 0, 1.000 for ids from 1 (one image, one box, one exact detection).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q pycocotools==2.0.11 2> /dev/null
"$folder/venv/bin/python" - <<'PYTHON'
import contextlib
import io

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def average_precision(first: int) -> float:
    box = [10, 10, 40, 40]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": 1, "width": 100, "height": 100, "file_name": "a.jpg"}],
            "categories": [{"id": 1, "name": "cat"}],
            "annotations": [
                {"id": first, "image_id": 1, "category_id": 1, "bbox": box, "area": 1600, "iscrowd": 0}
            ],
        }
        truth.createIndex()
        found = [{"image_id": 1, "category_id": 1, "bbox": box, "score": 0.9}]
        run = COCOeval(truth, truth.loadRes(found), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return float(run.stats[0])


zero, one = average_precision(0), average_precision(1)
print(f"ids from 0: AP {zero:.3f}; ids from 1: AP {one:.3f}")
assert zero < 0.001, "annotation 0 is matched now"
assert one > 0.999
PYTHON
