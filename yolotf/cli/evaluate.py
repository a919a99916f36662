"""`yolotf eval`: labelled pictures in; mean average precision out, as Darknet and COCO have it."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from yolotf.darknet import stock as networks
from yolotf.serving import evaluation


def run(parsed: argparse.Namespace) -> int:
    """The command `yolotf eval`."""
    if parsed.compare:
        return _compare(parsed)
    missing = [name for name in ("cfg", "weights") if getattr(parsed, name) is None]
    if missing:
        parsed.parser.error(f"--{missing[0]} is needed with --data and --coco")
    network = networks.find(parsed.cfg, classes=parsed.classes)
    if parsed.size is not None:
        network = network.resized(parsed.size)
    Path(parsed.weights).stat()  # before anything slow
    if parsed.coco:
        data = evaluation.read_coco(parsed.coco, images=parsed.images)
    else:
        data = evaluation.read_darknet(parsed.data)
    if data.unlabelled:
        print(
            f"yolotf: {len(data.unlabelled)} of {len(data.pictures)} pictures have no label file "
            f"and count as empty; the first: {evaluation.label_path(data.unlabelled[0])}",
            file=sys.stderr,
        )
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _progress(len(data.pictures)) as step:
        result = evaluation.evaluate(
            network,
            parsed.weights,
            data,
            iou_threshold=parsed.iou_thresh,
            points=parsed.points,
            score_threshold=parsed.thresh,
            batch=parsed.batch,
            progress=step,
        )
    if parsed.plot:
        evaluation.plot(result, parsed.plot)
    print(json.dumps(result.to_dict(), allow_nan=False) if parsed.json else result)
    return 0


def _compare(parsed: argparse.Namespace) -> int:
    found = evaluation.compare(*(evaluation.read_result(path) for path in parsed.compare))
    if parsed.json:
        print(json.dumps(found, allow_nan=False))
    else:
        print("\n".join(evaluation.comparison_lines(found)))
    return 0


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, if that is a terminal."""
    from rich import progress  # takes long to import
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda count: None
        return
    with progress.Progress(
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
        console=console,
        transient=True,
        redirect_stdout=sys.stdout.isatty(),
    ) as bar:
        task = bar.add_task("", total=total)
        yield lambda count: bar.advance(task, count)
