"""How good and how fast diagnoses are.

    python benchmarks/diagnosis.py                  # all single edits of all real pairs: minutes
    python benchmarks/diagnosis.py --every 10       # every tenth of them

Counted: reports of real users whose causes are all named and no others; networks changed in a
single place whose first wrong layer is named from the numbers in the file (where that layer or one
after it has batch norm: without, the numbers say too little); and real files refused by their own
cfg. Timed: a check of a file of YOLOv4's size in the page cache. Needs ../shared; TensorFlow is
not imported.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import make_weights, print_table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import diagnosis_cases
import helpers

from yolotf.darknet import cfg
from yolotf.darknet import stock as networks
from yolotf.diagnosis import result as diagnosis


def solved_reports(folder: Path) -> tuple[int, int]:
    """How many reports are explained by exactly their causes, and how many there are."""
    reports = diagnosis_cases.reports()
    solved = 0
    for report in reports:
        path = diagnosis_cases.write_report_file(report["file"], folder / "report.weights")
        found = diagnosis.diagnose(path, diagnosis_cases.report_network(report["model"]))
        solved += len(found.causes) == len(report["expect"]) and all(
            any(diagnosis_cases.says(cause, expected) for cause in found.causes)
            for expected in report["expect"]
        )
    return solved, len(reports)


def located_edits(pairs: list[tuple[Path, Path]], every: int) -> tuple[int, int]:
    """How many single edits are located to the layer, and how many were tried."""
    located = tried = 0
    for weights, cfg_file in pairs:
        edits = [e for e in diagnosis_cases.single_edits(cfg.parse_cfg(cfg_file)) if e.seen]
        for edit in edits[::every]:
            found = diagnosis.diagnose(weights, edit.network).first_divergence
            located += found is not None and found.layer == edit.layer
            tried += 1
            progress(f"{weights.name}: {located} of {tried} edits located")
    progress("")
    return located, tried


def progress(text: str) -> None:
    """One line that is written over, on stderr and only for people."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{text[:100]:<100}")


def wrong_alarms(pairs: list[tuple[Path, Path]]) -> int:
    """How many real files do not fit their own cfg."""
    return sum(not diagnosis.diagnose(weights, cfg_file).ok for weights, cfg_file in pairs)


def check_ms(folder: Path, repeats: int) -> float:
    """Median time of a check against a cfg file of YOLOv4, the parsing of the cfg included."""
    network = networks.network("yolov4")
    weights, cfg_file = folder / "yolov4.weights", folder / "yolov4.cfg"
    make_weights(network, weights)
    cfg_file.write_text(network.to_cfg(), encoding="utf-8")
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        found = diagnosis.diagnose(weights, cfg_file)
        times.append(time.perf_counter() - started)
        assert found.ok, found
    return 1e3 * statistics.median(times[1:])


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--every", type=int, default=1, help="try only every Nth edit")
    parser.add_argument("--repeats", type=int, default=15, help="checks to time")
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    options = parser.parse_args()
    if not helpers.SHARED.is_dir():
        sys.exit(helpers.NO_SHARED)
    pairs = [*diagnosis_cases.pairs(), diagnosis_cases.official_pair()]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ms = check_ms(folder, options.repeats)
        solved, reports = solved_reports(folder)
    located, edits = located_edits(pairs, options.every)
    result: dict[str, Any] = {
        "reports_solved": solved,
        "reports": reports,
        "edits_located": located,
        "edits": edits,
        "wrong_alarms": wrong_alarms(pairs),
        "files": len(pairs),
        "check_ms": round(ms, 1),
        "tensorflow_imported": "tensorflow" in sys.modules,
    }
    if options.json:
        print(json.dumps(result, indent=2))
        return
    print_table(
        "Diagnosis",
        ("what", "result"),
        [
            ("reports solved", f"{solved}/{reports}"),
            ("single edits located", f"{located}/{edits} ({located / edits:.1%})"),
            ("wrong alarms on real files", f"{result['wrong_alarms']}/{len(pairs)}"),
            ("check of YOLOv4, 257,717,640 bytes, median", f"{ms:.0f} ms"),
            ("TensorFlow imported", "yes" if result["tensorflow_imported"] else "no"),
        ],
    )


if __name__ == "__main__":
    main()
