"""Cost of a reload for a detector in use: time, memory, and whether it ever mixes weights.

First, reloads of YOLOv4 and loads of the same file into new memory take turns, and the process's
memory is measured before and after. Then clients call yolov4-tiny without a pause while it is
reloaded with two files in turn: each answer has to be exactly that of one of the two.

Every installed engine is measured. For engines other than TensorFlow, `own_ms` is the time in which
the engine itself compiles an ONNX file that was converted beforehand; `times_own` is the ratio of a
reload to it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import make_weights, print_table, processor

import yolotf
from yolotf.inference.engines import open_engine
from yolotf.runtime.options import ENGINES, ServingOptions
from yolotf.weights import op_library
from yolotf.weights.file import WeightsFile


def resident_mb() -> float:
    """Returns this process's resident memory."""
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmRSS")).split()[1]) / 1024


def seconds(work: Callable[[], Any]) -> float:
    """Returns how long `work` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def own_load(engine: Any, network: yolotf.Network, weights: Path) -> Callable[[], Any] | None:
    """Returns a function in which the engine loads an ONNX file; None for TensorFlow."""
    if engine == "tensorflow":
        return None
    path = weights.with_suffix(".onnx")
    yolotf.convert(weights, network, path, batch_size=1)
    threads = op_library.thread_count()
    if engine == "openvino":
        import openvino

        properties = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
        return lambda: openvino.Core().compile_model(path, "CPU", properties)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return lambda: onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def against_a_load(
    network: yolotf.Network, weights: Path, rounds: int, engine_name: Any
) -> dict[str, Any]:
    """Compares a reload with a load into new memory, which is then released."""
    detector = yolotf.Detector(network, weights, engine=engine_name)
    options = ServingOptions(engine=engine_name)
    with WeightsFile.open(weights) as file:
        engine, _ = open_engine(network, file, options, op_library.thread_count())
    own = own_load(engine_name, network, weights)
    picture = np.zeros(network.input_shape, np.uint8)
    detector(picture)
    before = resident_mb()
    loads, reloads, owns = [], [], []
    for round_number in range(-2, rounds):  # the first two rounds are not counted
        load = seconds(lambda: engine.load(weights))
        reload = seconds(lambda: detector.reload(weights))
        if round_number >= 0:
            loads.append(load)
            reloads.append(reload)
            if own is not None:
                owns.append(seconds(own))
        detector(picture)
    return {
        "load_ms": 1e3 * statistics.median(loads),
        "reload_ms": 1e3 * statistics.median(reloads),
        "reload_minimum_ms": 1e3 * min(reloads),
        "times_a_load": statistics.median(reloads) / statistics.median(loads),
        **(
            {
                "own_ms": 1e3 * statistics.median(owns),
                "times_own": statistics.median(reloads) / statistics.median(owns),
            }
            if owns
            else {}
        ),
        "file_mb": weights.stat().st_size / 2**20,
        "resident_before_mb": before,
        "resident_after_mb": resident_mb(),
    }


def under_clients(
    network: yolotf.Network, files: list[Path], reloads: int, clients: int, engine: Any
) -> dict[str, Any]:
    """Counts the answers of each of two files, and those of neither."""
    random = np.random.default_rng(3)
    picture = random.integers(0, 256, network.input_shape, np.uint8)
    # Made-up weights detect nothing; this threshold is so low that each file has detections.
    best = [
        yolotf.Detector(network, file, score_threshold=0, max_boxes=50, engine=engine)(picture)
        for file in files
    ]
    score = min(float(detections.scores[-1]) for detections in best)
    options: dict[str, Any] = {"score_threshold": score, "max_boxes": 50, "engine": engine}

    def answer(detector: yolotf.Detector) -> bytes:
        detections = detector(picture)
        assert isinstance(detections, yolotf.Detections)
        return (
            detections.xyxy.tobytes() + detections.scores.tobytes() + detections.classes.tobytes()
        )

    allowed = [answer(yolotf.Detector(network, file, **options)) for file in files]
    if allowed[0] == allowed[1] or not all(allowed):
        sys.exit("the two files do not tell answers apart")
    detector = yolotf.Detector(network, files[0], **options)
    answer(detector)
    done = threading.Event()
    counts = [[0, 0, 0] for _ in range(clients)]  # of the first file, of the second, of neither
    failures: list[BaseException] = []

    def ask(mine: list[int]) -> None:
        try:
            while not done.is_set():
                answered = answer(detector)
                mine[allowed.index(answered) if answered in allowed else 2] += 1
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=ask, args=(mine,)) for mine in counts]
    for thread in threads:
        thread.start()
    before = None
    times = []
    for number in range(reloads):
        times.append(seconds(partial(detector.reload, files[(number + 1) % 2])))
        if number == reloads // 10:  # TensorFlow's own memory has grown to what it needs
            before = resident_mb()
    done.set()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    first, second, wrong = map(sum, zip(*counts, strict=True))
    return {
        "reloads": reloads,
        "clients": clients,
        "answers_of_first": first,
        "answers_of_second": second,
        "answers_of_neither": wrong,
        "reload_ms": 1e3 * statistics.median(times),
        "file_mb": files[0].stat().st_size / 2**20,
        "resident_after_a_tenth_mb": before,
        "resident_after_mb": resident_mb(),
    }


def main() -> None:
    """Runs and prints all measurements; exits with 1 if an answer was of neither file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, default=416)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--reloads", type=int, default=100)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=installed())
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse_args()
    results: dict[str, dict[str, dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        large = yolotf.network("yolov4", size=arguments.size)
        make_weights(large, folder / "large.weights")
        tiny = yolotf.network("yolov4-tiny", size=arguments.size)
        files = [folder / "first.weights", folder / "second.weights"]
        make_weights(tiny, files[0])
        floats = np.fromfile(files[0], np.float32, offset=20)
        with files[1].open("wb") as file:
            file.write(files[0].read_bytes()[:20])
            (floats * np.float32(0.99)).tofile(file)
        for engine in arguments.engines:
            results[engine] = {
                "yolov4": against_a_load(large, folder / "large.weights", arguments.rounds, engine),
                "yolov4-tiny": under_clients(
                    tiny, files, arguments.reloads, arguments.clients, engine
                ),
            }
    if arguments.json:
        print(json.dumps({"processor": processor(), **results}, indent=1))
    else:
        for network, title in (("yolov4", "nobody asks"), ("yolov4-tiny", "clients ask")):
            names = dict.fromkeys(name for result in results.values() for name in result[network])
            rows = [
                (
                    name.replace("_", " "),
                    *(_text(results[engine][network], name) for engine in results),
                )
                for name in names
            ]
            print_table(f"{network}, {title}; {processor()}", ("", *results), rows)
    wrong = sum(result["yolov4-tiny"]["answers_of_neither"] for result in results.values())
    sys.exit(1 if wrong else 0)


def installed() -> list[str]:
    """Returns the engines whose packages, of the same names, are installed."""
    return [engine for engine in ENGINES if importlib.util.find_spec(engine) is not None]


def _text(facts: dict[str, Any], name: str) -> str:
    value = facts.get(name, "")
    return f"{value:.2f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
