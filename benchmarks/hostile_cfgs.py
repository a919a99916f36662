"""Time and memory of cfgs made to be slow: each kind at a size and at ten times it.

    python benchmarks/hostile_cfgs.py [--check FILE.weights]

Each case runs in a process of its own; with a file, `diagnose` runs on what could be read. Cases
that a limit refuses are read once more with all limits lifted, to show that they grow linearly.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable

HEAD = "[net]\nwidth=32\nheight=32\nchannels=3\n"
CONV = "[convolutional]\nfilters=6\nsize=1\nstride=1\npad=1\nactivation=linear\n"


def _keys(count: int) -> str:
    return HEAD + CONV + "".join(f"key{i}={i}\n" for i in range(count))


CASES: dict[str, tuple[int, Callable[[int], str]]] = {
    "keys in a section": (3_000, _keys),
    "convolutions": (200, lambda n: HEAD + CONV * n),
    "routes that double": (
        2_000,
        lambda n: HEAD + CONV + "[route]\nlayers=-1,-1\n" * n + CONV,
    ),
    "routes to all before": (
        60,
        lambda n: (
            HEAD
            + CONV
            + "".join(
                f"[route]\nlayers={','.join(['0'] * (i + 1))}\n[route]\nlayers=0\n"
                for i in range(n)
            )
        ),
    ),
    "[dropout]": (10_000, lambda n: HEAD + CONV + "[dropout]\n" * n),
    "lines that are no option": (10_000, lambda n: HEAD + "junk\n" * n + CONV),
    "comments": (10_000, lambda n: HEAD + "# a comment\n" * n + CONV),
    "keys written twice": (10_000, lambda n: HEAD + "width=1\n" * n + CONV),
    "one long line": (100_000, lambda n: HEAD + "# " + "x" * n + "\n" + CONV),
    "digits of a number": (10_000, lambda n: HEAD.replace("=32", "=" + "0" * n + "32", 1) + CONV),
    "anchors": (
        10_000,
        lambda n: HEAD + CONV + f"[yolo]\nclasses=1\nnum=1\nanchors={'1,' * n}1\n",
    ),
    "num": (30_000, lambda n: HEAD + CONV + f"[yolo]\nclasses=1\nmask=0\nnum={n}\n"),
    "mask": (214_748_364, lambda n: HEAD + CONV + f"[yolo]\nclasses=1\nmask={n}\n"),
    "heads": (
        100,
        lambda n: HEAD + (CONV + "[yolo]\nclasses=1\n[route]\nlayers=0\n") * n,
    ),
}


def _one(name: str, count: int, lifted: bool, weights: str | None) -> None:
    from yolotf.darknet import cfg
    from yolotf.errors import YolotfError

    text = CASES[name][1](count)
    limits = cfg.UNLIMITED if lifted else cfg.Limits()
    start = time.perf_counter()
    try:
        network = cfg.parse_text(text, source="hostile.cfg", limits=limits)
        result = f"{len(network.layers):,} layers, {len(network.warnings):,} warnings"
        if weights:
            from yolotf.diagnosis import diagnose

            result += f", {len(diagnose(weights, network).causes)} causes"
    except YolotfError as error:
        result = f"refused: {str(error)[:90]}"
    seconds = time.perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{len(text) / 1e6:7.2f} MB {seconds:8.3f} s {memory:6.0f} MB  {result}")


def main() -> None:
    """Runs every case in its own process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", metavar="FILE")
    parser.add_argument("--one", nargs=3, metavar=("CASE", "COUNT", "LIFTED"))
    options = parser.parse_args()
    if options.one:
        name, count, lifted = options.one
        _one(name, int(count), lifted == "1", options.check)
        return
    for name, (count, _) in CASES.items():
        for times in (1, 10):
            for lifted in ("0", "1"):
                label = f"{name} x{times}{', no limits' if lifted == '1' else ''}"
                print(f"{label:40}", end="", flush=True)
                command = [sys.executable, __file__, "--one", name, str(times * count), lifted]
                if options.check:
                    command += ["--check", options.check]
                subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
