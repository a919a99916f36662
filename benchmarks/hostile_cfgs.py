"""Time and memory of cfgs made to be slow: each kind in one size, and ten times as large.

Each case runs in a separate process; cases with a file also run `diagnose` on it. Cases that a
limit refuses are read once more without any limits, to show that the time grows linearly. Then
networks of many different layers are compared with files that look like many explanations. Times
are processor times of parsing and diagnosing, which depend little on other programs.
"""

from __future__ import annotations

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np

HEAD = "[net]\nwidth=32\nheight=32\nchannels=3\n"
CONV = "[convolutional]\nfilters=6\nsize=1\nstride=1\npad=1\nactivation=linear\n"


def _keys(count: int) -> str:
    return HEAD + CONV + "".join(f"key{i}={i}\n" for i in range(count))


CASES: dict[str, tuple[int, Callable[[int], str]]] = {
    "keys in a section": (3_000, _keys),
    "convolutions": (200, lambda count: HEAD + CONV * count),
    "routes that double": (
        2_000,
        lambda count: HEAD + CONV + "[route]\nlayers=-1,-1\n" * count + CONV,
    ),
    "routes to all before": (
        60,
        lambda count: (
            HEAD
            + CONV
            + "".join(
                f"[route]\nlayers={','.join(['0'] * (i + 1))}\n[route]\nlayers=0\n"
                for i in range(count)
            )
        ),
    ),
    "[dropout]": (10_000, lambda count: HEAD + CONV + "[dropout]\n" * count),
    "lines that are no option": (10_000, lambda count: HEAD + "junk\n" * count + CONV),
    "comments": (10_000, lambda count: HEAD + "# a comment\n" * count + CONV),
    "keys written twice": (10_000, lambda count: HEAD + "width=1\n" * count + CONV),
    "one long line": (100_000, lambda count: HEAD + "# " + "x" * count + "\n" + CONV),
    "digits of a number": (
        10_000,
        lambda count: HEAD.replace("=32", "=" + "0" * count + "32", 1) + CONV,
    ),
    "anchors": (
        10_000,
        lambda count: HEAD + CONV + f"[yolo]\nclasses=1\nnum=1\nanchors={'1,' * count}1\n",
    ),
    "num": (30_000, lambda count: HEAD + CONV + f"[yolo]\nclasses=1\nmask=0\nnum={count}\n"),
    "mask": (214_748_364, lambda count: HEAD + CONV + f"[yolo]\nclasses=1\nmask={count}\n"),
    "heads": (
        100,
        lambda count: HEAD + (CONV + "[yolo]\nclasses=1\n[route]\nlayers=0\n") * count,
    ),
}


FILES: dict[str, Callable[[np.ndarray, slice], np.ndarray]] = {
    "noise of the exact size": lambda floats, variance: floats,
    "noise, 1,000 floats more": lambda floats, variance: np.append(floats, floats[:1000]),
    "noise, 777 floats less": lambda floats, variance: floats[:-777],
    "one variance negative": lambda floats, variance: _negative(np.abs(floats), variance),
}
"""The contents of the files; `variance` is the range of the sixth layer's moving variance."""


def _negative(floats: np.ndarray, variance: slice) -> np.ndarray:
    floats[variance] *= -1
    return floats


def _different(count: int) -> str:
    """Returns convolutions of random filters and sizes."""
    draw = random.Random(1)
    lines = [HEAD]
    for _ in range(count):
        filters, size = draw.randint(4, 16), draw.choice((1, 1, 3))
        conv = CONV.replace("filters=6", f"batch_normalize=1\nfilters={filters}")
        lines.append(conv.replace("size=1", f"size={size}"))
    return "".join(lines)


def _against(name: str, count: int) -> None:
    """Diagnoses a file of `FILES`, and prints time and memory."""
    from yolotf.darknet import cfg
    from yolotf.diagnosis import diagnose
    from yolotf.weights import layout

    text = _different(count)
    network = cfg.parse_text(text, source="hostile.cfg")
    variances = [s for s in layout.segments(network) if s.role == "moving_variance"]
    start = variances[5].offset // layout.FLOAT_BYTES
    noise = np.random.default_rng(1).standard_normal(layout.floats(network), dtype=np.float32)
    floats = FILES[name](noise, slice(start, start + variances[5].count))
    with tempfile.NamedTemporaryFile(suffix=".weights") as file:
        file.write(np.array([0, 2, 5, 0, 0], np.int32).tobytes())
        floats.tofile(file)
        file.flush()
        started = time.process_time()
        network = cfg.parse_text(text, source="hostile.cfg")
        result = f"{count:,} layers, {len(diagnose(file.name, network).causes)} causes"
        _report(len(text), started, result)


def _report(characters: int, start: float, result: str) -> None:
    seconds = time.process_time() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{characters / 1e6:7.2f} MB {seconds:8.3f} s {memory:6.0f} MB  {result}")


def _one(name: str, count: int, lifted: bool, weights: str | None) -> None:
    from yolotf.darknet import cfg
    from yolotf.errors import YolotfError

    text = CASES[name][1](count)
    limits = cfg.UNLIMITED if lifted else cfg.Limits()
    start = time.process_time()
    try:
        network = cfg.parse_text(text, source="hostile.cfg", limits=limits)
        result = f"{len(network.layers):,} layers, {len(network.warnings):,} warnings"
        if weights:
            from yolotf.diagnosis import diagnose

            result += f", {len(diagnose(weights, network).causes)} causes"
    except YolotfError as error:
        result = f"refused: {str(error)[:90]}"
    _report(len(text), start, result)


def main() -> None:
    """Runs every case in a separate process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", metavar="FILE")
    parser.add_argument("--only", choices=CASES, metavar="CASE", help="one of the cases")
    parser.add_argument("--one", nargs=3, metavar=("CASE", "COUNT", "LIFTED"))
    parser.add_argument("--against", nargs=2, metavar=("FILE", "COUNT"))
    options = parser.parse_args()
    if options.against:
        _against(options.against[0], int(options.against[1]))
        return
    if options.one:
        name, count, lifted = options.one
        _one(name, int(count), lifted == "1", options.check)
        return
    for name, (count, _) in CASES.items():
        if options.only not in (None, name):
            continue
        for times in (1, 10):
            for lifted in ("0", "1"):
                label = f"{name} x{times}{', no limits' if lifted == '1' else ''}"
                print(f"{label:40}", end="", flush=True)
                command = [sys.executable, __file__, "--one", name, str(times * count), lifted]
                if options.check:
                    command += ["--check", options.check]
                subprocess.run(command, check=True)
    for name in () if options.only else FILES:
        for count in (450, 4_500):
            print(f"{name}, {count:,} layers".ljust(40), end="", flush=True)
            subprocess.run([sys.executable, __file__, "--against", name, str(count)], check=True)


if __name__ == "__main__":
    main()
