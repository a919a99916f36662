"""Memory that a load needs besides the variables, read from /proc while it runs.

Every load is the first of a fresh process, into variables whose memory has not been touched.
`anonymous` is the process's own memory (RssAnon) beyond that of the variables; `file` is pages of
files (RssFile), which the kernel shares and may drop. Then two processes load the same file at the
same time, repeatedly: for the mapping, Rss is what one process sees and Pss its share. MB are 2^20
bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

KINDS = ("inference function", "Keras model")
MB = 1 << 20
LOADS_TOGETHER = 40


def resident() -> dict[str, int]:
    """Returns RssAnon and RssFile of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    sizes = dict(line.split(":", 1) for line in lines if line.startswith("Rss"))
    return {name: 1024 * int(sizes[name].split()[0]) for name in ("RssAnon", "RssFile")}


def mapping(path: str) -> dict[str, int]:
    """Returns Rss and Pss of the mappings of a file in bytes."""
    sums = {"Rss": 0, "Pss": 0}
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in sums and inside:
            sums[name] += 1024 * int(value.split()[0])
        elif "-" in line.split(" ", 1)[0]:
            inside = line.endswith(path)
    return sums


class Sampler(threading.Thread):
    """A thread that calls a function repeatedly until stopped; native loads release the GIL."""

    def __init__(self, sample: Callable[[], dict[str, int]]) -> None:
        super().__init__(daemon=True)
        self.samples: list[dict[str, int]] = []
        self._sample = sample
        self._done = threading.Event()

    def run(self) -> None:
        """Calls the function until stopped."""
        while not self._done.is_set():
            self.samples.append(self._sample())
            time.sleep(0.0005)

    def __enter__(self) -> Sampler:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self.join()
        self.samples.append(self._sample())


def prepare(kind: str, cfg: str) -> tuple[Callable[[str], object], int]:
    """Returns a function that loads, and the bytes of the variables that it fills."""
    import yolotf
    from yolotf.weights import op_library

    network = yolotf.parse_cfg(cfg)
    op_library.op_library()
    if kind == "Keras model":
        model = yolotf.build_model(network)
        # Keras has initialized them, so their memory has been touched.
        return lambda weights: yolotf.load_darknet_weights(model, weights), 0
    from yolotf.inference import InferenceFunction

    function = InferenceFunction(network)
    stored = function.folded.stored.values()
    return function.load, sum(4 * variable.shape.num_elements() for variable in stored)


def alone(kind: str, cfg: str, weights: str) -> dict[str, Any]:
    """Measures one load."""
    load, variable_bytes = prepare(kind, cfg)
    before = resident()
    with Sampler(resident) as sampler:
        load(weights)
    peaks = {
        name: max(sample[name] for sample in sampler.samples) - before[name] for name in before
    }
    return {
        "samples": len(sampler.samples),
        "anonymous_mb": (peaks["RssAnon"] - variable_bytes) / MB,
        "file_mb": peaks["RssFile"] / MB,
        "left_mb": (sampler.samples[-1]["RssAnon"] - before["RssAnon"] - variable_bytes) / MB,
    }


def together(cfg: str, weights: str) -> dict[str, Any]:
    """Loads while another process does; returns what was seen with the whole file mapped."""
    load, _ = prepare("inference function", cfg)
    load(weights)
    print("ready", flush=True)
    sys.stdin.readline()
    with Sampler(lambda: mapping(weights)) as sampler:
        for _ in range(LOADS_TOGETHER):
            load(weights)
    whole = max(sample["Rss"] for sample in sampler.samples)
    full = [sample for sample in sampler.samples if sample["Rss"] == whole > 0]
    if not full:
        sys.exit("the file was never mapped: see `mapped` of the load's report")
    least = min(sample["Pss"] for sample in full)
    return {"samples": len(full), "rss_mb": whole / MB, "least_pss_mb": least / MB}


def start(arguments: list[str]) -> subprocess.Popen[str]:
    """Starts a child process of this script."""
    return subprocess.Popen(
        [sys.executable, __file__, "--child", *arguments],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def answer(process: subprocess.Popen[str], text: str | None = None) -> dict[str, Any]:
    """Returns the last line that a child printed."""
    output, _ = process.communicate(text)
    if process.returncode:
        sys.exit(process.returncode)
    numbers: dict[str, Any] = json.loads(output.splitlines()[-1])
    return numbers


def main() -> None:
    """Runs all measurements and prints them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--cfg", default="yolov4", help="a cfg or a stock network's name")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        kind, cfg, weights = arguments.child
        numbers = together(cfg, weights) if kind == "together" else alone(kind, cfg, weights)
        print(json.dumps(numbers))
        return
    with tempfile.TemporaryDirectory() as temporary:
        from common import make_weights

        from yolotf.darknet.stock import as_network

        network = as_network(arguments.cfg)
        weights = arguments.weights or Path(temporary) / "made.weights"
        if arguments.weights is None:
            make_weights(network, weights)
        cfg = Path(temporary) / "network.cfg"
        cfg.write_text(network.to_cfg())
        files = [str(cfg), os.path.realpath(weights)]
        rows = [{"into": kind, **answer(start([kind, *files]))} for kind in KINDS]
        pair = [start(["together", *files]) for _ in range(2)]
        for process in pair:
            process.stdout.readline()  # type: ignore[union-attr]
        for process in pair:
            process.stdin.write("go\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
        shared = [answer(process) for process in pair]
        size_mb = weights.stat().st_size / MB
    facts = {"network": arguments.cfg, "size_mb": size_mb}
    if arguments.json:
        print(json.dumps({**facts, "rows": rows, "shared": shared}, indent=1))
        return
    from common import print_table

    print_table(
        f"{arguments.cfg}, a file of {size_mb:.0f} MB: peak beyond the variables, MB",
        ("into", "anonymous", "file", "anonymous afterwards"),
        [
            (
                row["into"],
                f"{row['anonymous_mb']:.1f}",
                f"{row['file_mb']:.1f}",
                f"{row['left_mb']:.1f}",
            )
            for row in rows
        ],
    )
    print_table(
        "two processes loading the same file: its mapping, MB",
        ("", "Rss", "least Pss"),
        [
            (f"process {number}", f"{numbers['rss_mb']:.1f}", f"{numbers['least_pss_mb']:.1f}")
            for number, numbers in enumerate(shared, 1)
        ],
    )


if __name__ == "__main__":
    main()
