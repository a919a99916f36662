"""Measures how good and how fast diagnoses are.

Counted are:

* reports of real users: for how many exactly the true causes are named;
* networks changed in one place: for how many the values of the file show the first wrong layer
  (only changes with batch normalization there or after it: without, the values say too little);
* edits of every stock cfg (some heads edited and others forgotten, class counts, one layer's
  filters, size, stride, groups or batch_normalize, a layer removed or added, batch normalization
  folded): for how many the true cause comes first, and how many of these undamaged files are called
  damaged;
* real files that are refused with their own cfg, or called damaged;
* corruptions of real files: how many a load refuses by itself. The others look like values of a
  network: blocks of kernels that changed places, a shift after the last variance, and exponents
  whose lower bits flipped, which makes values smaller, or larger by no more than those of other
  layers.

Timed is a check of a file of YOLOv4's size in the page cache. Needs ../shared; TensorFlow is not
imported.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import corruptions
import numpy as np
from common import make_weights, print_table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support import diagnosis_cases, edited_cfgs, helpers
from yolotf import diagnosis
from yolotf.darknet import cfg
from yolotf.darknet import stock as networks
from yolotf.errors import WeightsMismatch, YolotfError
from yolotf.weights import layout, op_library
from yolotf.weights.arrays import check_size, fill_arrays
from yolotf.weights.file import WeightsFile


def solved_reports(folder: Path) -> tuple[int, int]:
    """Returns how many reports are explained by exactly their causes, and their number."""
    reports = diagnosis_cases.reports()
    solved = 0
    for report in reports:
        path = diagnosis_cases.write_report_file(report["file"], folder / "report.weights")
        answer = diagnosis.diagnose(path, diagnosis_cases.report_network(report["model"]))
        solved += len(answer.causes) == len(report["expect"]) and all(
            any(diagnosis_cases.has_fields(cause, expected) for cause in answer.causes)
            for expected in report["expect"]
        )
    return solved, len(reports)


def located_edits(pairs: list[tuple[Path, Path]], every: int) -> tuple[int, int]:
    """Returns how many single edits are located to the layer, and how many were tried."""
    located = tried = 0
    for weights, cfg_file in pairs:
        edits = [e for e in diagnosis_cases.single_edits(cfg.parse_cfg(cfg_file)) if e.seen]
        for edit in edits[::every]:
            divergence = diagnosis.diagnose(weights, edit.network).first_divergence
            located += divergence is not None and divergence.layer == edit.layer
            tried += 1
            progress(f"{weights.name}: {located} of {tried} edits located")
    progress("")
    return located, tried


def progress(text: str) -> None:
    """Shows a line on stderr that the next one overwrites; only on a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{text[:100]:<100}")


def wrong_alarms(pairs: list[tuple[Path, Path]]) -> int:
    """Returns how many real files do not match their own cfg."""
    return sum(not diagnosis.diagnose(weights, cfg_file).ok for weights, cfg_file in pairs)


def load(path: Path, network: cfg.Network) -> None:
    """Does what every load does natively: all checks, and writing into arrays.

    Raises:
        WeightsMismatch: the file is refused.
    """
    file = WeightsFile.named(path).parsed(layout.floats(network))
    assignments = tuple(
        layout.assignment(segment, _slot(segment, None)) for segment in layout.segments(network)
    )
    plan = layout.Plan(assignments, layout.floats(network), network)
    check_size(file, plan)
    arrays = [np.empty(assignment.shape, np.float32) for assignment in assignments]
    fill_arrays(file, plan, arrays, verify=True, threads=op_library.thread_count())


def _slot(segment: layout.Segment, array: Any) -> layout.Slot:
    shape = segment.shape if array is None else array.shape
    return layout.Slot("", segment.role, array, shape, "float32")


def refused_corruptions(
    pairs: list[tuple[Path, Path]], folder: Path, each: int
) -> dict[str, tuple[int, int]]:
    """Returns how many corruptions of each kind are refused, and how many were tried."""
    refused: Counter[str] = Counter()
    tried: Counter[str] = Counter()
    path = folder / "corrupted.weights"
    for weights, cfg_file in pairs:
        network, content = cfg.parse_cfg(cfg_file), weights.read_bytes()
        load(weights, network)
        header_bytes = len(content) - layout.FLOAT_BYTES * layout.floats(network)
        for kind, corrupted in corruptions.corruptions(content, header_bytes, each, seed=1):
            path.write_bytes(corrupted)
            tried[kind] += 1
            try:
                load(path, network)
            except WeightsMismatch:
                refused[kind] += 1
            progress(f"{weights.name}: {sum(refused.values())} of {sum(tried.values())} refused")
    progress("")
    return {kind: (refused[kind], tried[kind]) for kind in corruptions.KINDS}


def called_damaged() -> tuple[int, int]:
    """Returns how many backbones of the corpus are called damaged, and their number."""
    files = [
        path for path in (helpers.SHARED / "corpus/partial").iterdir() if path.suffix != ".cfg"
    ]
    called = 0
    for path in files:
        answer = diagnosis.diagnose(path, path.with_name(f"{path.name}.cfg"))
        called += any(cause.kind == "damaged" for cause in answer.causes)
    return called, len(files)


class RightCauses(NamedTuple):
    """What diagnoses say about edits of stock cfgs.

    Attributes:
        right: by kind, how many have the true edit as their first cause.
        tried: by kind, how many were tried.
        called_damaged: how many undamaged files are called damaged or truncated.
        slowest: seconds of the slowest diagnosis.
    """

    right: Counter[str]
    tried: Counter[str]
    called_damaged: int
    slowest: float


def right_causes(folder: Path, each: int) -> RightCauses:
    """Diagnoses a file of every stock cfg against the cfg, edited as people edit cfgs."""
    right: Counter[str] = Counter()
    tried: Counter[str] = Counter()
    called_damaged, slowest = 0, 0.0
    path = folder / "stock.weights"
    for cfg_file in sorted((helpers.SHARED / "cfg").glob("*.cfg")):
        try:
            cases = list(edited_cfgs.cases(cfg.parse_cfg(cfg_file), each))
        except YolotfError:
            continue
        written: cfg.Network | None = None
        for case in sorted(cases, key=lambda case: id(case.file)):
            if case.file is not written:
                written = case.file
                edited_cfgs.trained_file(written, path)
            started = time.perf_counter()
            causes = [c.to_dict() for c in diagnosis.diagnose(path, case.network).causes]
            slowest = max(slowest, time.perf_counter() - started)
            tried[case.kind] += 1
            right[case.kind] += bool(causes) and case.is_true(causes[0])
            called_damaged += any(map(edited_cfgs.calls_it_damaged, causes))
            progress(f"{cfg_file.name}: {sum(right.values())} of {sum(tried.values())} right")
    progress("")
    return RightCauses(right, tried, called_damaged, slowest)


def check_ms(folder: Path, repeats: int) -> float:
    """Returns the median time of a check of a YOLOv4 file, including parsing the cfg."""
    network = networks.network("yolov4")
    weights, cfg_file = folder / "yolov4.weights", folder / "yolov4.cfg"
    make_weights(network, weights)
    cfg_file.write_text(network.to_cfg(), encoding="utf-8")
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        answer = diagnosis.diagnose(weights, cfg_file)
        times.append(time.perf_counter() - started)
        assert answer.ok, answer
    return 1e3 * statistics.median(times[1:])


def main() -> None:
    """Runs all measurements and prints them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--every", type=int, default=1, help="try only every Nth edit")
    parser.add_argument("--repeats", type=int, default=15, help="checks to time")
    parser.add_argument("--silent", action="store_true", help="only what a load refuses")
    parser.add_argument("--causes", action="store_true", help="only edits of the stock cfgs")
    parser.add_argument("--each", type=int, default=2, help="edits of a kind for each stock cfg")
    parser.add_argument("--corruptions", type=int, default=200, help="of each real file")
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    options = parser.parse_args()
    if not helpers.SHARED.is_dir():
        sys.exit(helpers.NO_SHARED)
    pairs = [*diagnosis_cases.pairs(), diagnosis_cases.official_pair()]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.causes:
            _report(_causes(right_causes(folder, options.each)), {}, options)
            return
        refused = refused_corruptions(diagnosis_cases.pairs(), folder, options.corruptions)
        alarms, files = wrong_alarms(pairs), len(pairs)
        damaged, backbones = called_damaged()
        if options.silent:
            _report(
                {"wrong_alarms": alarms + damaged, "files": files + backbones}, refused, options
            )
            return
        ms = check_ms(folder, options.repeats)
        solved, reports = solved_reports(folder)
        causes = right_causes(folder, options.each)
    located, edits = located_edits(pairs, options.every)
    result: dict[str, Any] = {
        "reports_solved": solved,
        "reports": reports,
        "edits_located": located,
        "edits": edits,
        "wrong_alarms": alarms + damaged,
        "files": files + backbones,
        "check_ms": round(ms, 1),
        "tensorflow_imported": "tensorflow" in sys.modules,
        **_causes(causes),
    }
    _report(result, refused, options)


def _causes(causes: RightCauses) -> dict[str, Any]:
    return {
        "right_causes": sum(causes.right.values()),
        "edited_cfgs": sum(causes.tried.values()),
        "by_kind": {
            kind: [causes.right[kind], causes.tried[kind]] for kind in sorted(causes.tried)
        },
        "undamaged_called_damaged": causes.called_damaged,
        "slowest_s": round(causes.slowest, 1),
    }


def _report(
    result: dict[str, Any], refused: dict[str, tuple[int, int]], options: argparse.Namespace
) -> None:
    if options.json:
        shares = {kind: {"refused": some, "tried": all_} for kind, (some, all_) in refused.items()}
        print(json.dumps({**result, "corruptions": shares}, indent=2))
        return
    rows: list[tuple[str, str]] = []
    if "right_causes" in result:
        right, tried = result["right_causes"], result["edited_cfgs"]
        rows.append(("right cause first", f"{right}/{tried} ({right / tried:.1%})"))
        rows += [
            (f"  {kind}", f"{right}/{tried}") for kind, (right, tried) in result["by_kind"].items()
        ]
        called = f"{result['undamaged_called_damaged']}/{tried}"
        rows.append(("  undamaged files called damaged", called))
        rows.append(("  slowest diagnosis", f"{result['slowest_s']} s"))
    if "reports" in result:
        located, edits = result["edits_located"], result["edits"]
        rows += [
            ("reports solved", f"{result['reports_solved']}/{result['reports']}"),
            ("single edits located", f"{located}/{edits} ({located / edits:.1%})"),
            ("check of YOLOv4, 257,717,640 bytes, median", f"{result['check_ms']:.0f} ms"),
            ("TensorFlow imported", "yes" if result["tensorflow_imported"] else "no"),
        ]
    if "files" in result:
        rows.append(("wrong alarms on real files", f"{result['wrong_alarms']}/{result['files']}"))
    rows += [
        (f"{kind}: refused by a load", f"{some}/{tried} ({some / tried:.1%})")
        for kind, (some, tried) in refused.items()
    ]
    print_table("Diagnosis", ("what", "result"), rows)


if __name__ == "__main__":
    main()
