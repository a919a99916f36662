"""Times how long it takes to load a `.weights` file into a Keras model, all rows in one process.

Every row is first checked to fill the model with the same values. Then the rows take turns, with
the file in the page cache. The floor, which no loader can beat, maps the file and copies it by
memcpy, with the op's number of threads, into existing memory, in huge pages where the kernel
provides them. The pure Python loader is the classic one: np.fromfile, reshape, transpose,
set_weights.

The second table is from fresh processes, one for each row and round: they have not loaded or freed
anything before, so the kernel has to find and clear all memory that they write. Its floor copies
the file once into such memory. `again` is a second load into the same model.

With `--cold` the kernel drops the file's pages before every turn (posix_fadvise, for files on a
disk, not in a tmpfs: see --folder), and the floor is a sequential read.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
from common import make_weights, print_table, processor, settle

import yolotf
from yolotf import _core
from yolotf.graphs.folded_network import FoldedNetwork
from yolotf.graphs.network import NetworkGraph
from yolotf.loading.plan import plan_for
from yolotf.models.variables import plain
from yolotf.runtime import arrays
from yolotf.weights import op_library
from yolotf.weights import write as writing
from yolotf.weights.arrays import fill_arrays
from yolotf.weights.file import WeightsFile

FLOOR, OP, WHOLE, PYTHON = "memcpy (floor)", "yolotf op", "load_darknet_weights", "pure Python"
UNVERIFIED = "load_darknet_weights, verify=False"
INFERENCE = "inference function"
ARRAYS = "runtime"
READ = "sequential read (floor)"
COPY = "copied into new memory (floor)"
FIRST, AGAIN = "load_darknet_weights, first", "load_darknet_weights, again"
FIRST_RUNTIME = "runtime, first"
_COLD = (OP, WHOLE, INFERENCE, PYTHON)
CHILDREN = {COPY: (COPY,), FIRST: (FIRST, AGAIN), FIRST_RUNTIME: (FIRST_RUNTIME,)}
"""The rows that a fresh process measures, by the name of the process."""


class Loaders:
    """The rows: each method loads in one way."""

    def __init__(self, weights: Path, network: yolotf.Network, folder: Path) -> None:
        self.weights = weights
        self.network = network
        self.folder = folder
        self.model = yolotf.build_model(network)
        self.plan = plan_for(self.model, network)
        self.file = WeightsFile.named(weights).parsed(self.plan.floats)
        # NumPy asks for huge pages for arrays of this size.
        self.memory = np.zeros(self.file.size_bytes, np.uint8)
        self.layers = [
            (self.model.get_layer(name), name + "_bn")
            for name in (
                f"conv_{section.index}"
                for section in network.layers
                if section.type == "convolutional"
            )
        ]
        self.norms = {layer.name: layer for layer in self.model.layers}
        self.folded = FoldedNetwork(network)
        self.graph = NetworkGraph(network, use_onednn=self.folded.onednn)
        self.arrays = arrays.allocate(self.graph.shapes)

    def floor(self) -> None:
        """Maps the file and copies it into existing memory."""
        _core.copy_file(self.weights, self.memory, op_library.thread_count())

    def read(self) -> None:
        """Reads the file from beginning to end, 1 MB at a time, and keeps nothing."""
        piece = bytearray(1 << 20)
        with self.weights.open("rb", buffering=0) as file:
            while file.readinto(piece):
                pass

    def drop(self) -> None:
        """Makes the kernel drop the file's pages."""
        with self.weights.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def op(self) -> None:
        """Runs the native load alone, with all checks."""
        stats = writing.write(self.file, self.plan, cast=False, verify=True)
        assert stats.path_taken == "op"

    def unverified(self) -> None:
        """Runs the public function without the content check."""
        yolotf.load_darknet_weights(self.model, self.weights, verify=False)

    def whole(self) -> None:
        """Runs the public function, which also walks the model."""
        yolotf.load_darknet_weights(self.model, self.weights)

    def inference(self) -> None:
        """Loads as a server does: batch normalization is folded while the file is read."""
        self.folded.load(self.weights, contents_disposable=True)

    def into_arrays(self) -> None:
        """Loads the arrays of a `Detector`, without TensorFlow."""
        plan = self.graph.plan(transposed=self.file.header.transposed)
        targets = [self.arrays[assignment.slot.variable] for assignment in plan.assignments]
        threads = op_library.thread_count()
        fill_arrays(self.file, plan, targets, verify=True, threads=threads)

    def folded_kernels(self) -> Iterator[tuple[Any, Any]]:
        """Yields each kernel of `inference`, and what the model's variables fold to."""
        whole = self.folded.hwio_weights()
        for layer, norm_name in self.layers:
            kernel, norm = layer.kernel.numpy().astype(np.float64), self.norms.get(norm_name)
            if norm is not None:
                kernel *= norm.gamma.numpy() / np.sqrt(norm.moving_variance.numpy() + 1e-5)
            yield whole[layer.name.removeprefix("conv_") + "/kernel"].numpy(), kernel

    def portable(self) -> None:
        """Loads without the op, into new memory that becomes the variables."""
        with mock.patch.object(writing, "_op_can", return_value=False):
            stats = writing.write(self.file, self.plan, cast=False, verify=True)
        assert stats.path_taken == "portable"

    def pure_python(self) -> None:
        """Loads as well-known repositories do."""
        with self.weights.open("rb") as file:
            np.fromfile(file, np.int32, 5)
            for layer, norm_name in self.layers:
                height, width, channels, filters = layer.kernel.shape
                norm = self.norms.get(norm_name)
                if norm is None:
                    bias = np.fromfile(file, np.float32, filters)
                else:
                    numbers = np.fromfile(file, np.float32, 4 * filters).reshape(4, filters)
                    norm.set_weights(numbers[[1, 0, 2, 3]])
                count = filters * channels * height * width
                kernel = np.fromfile(file, np.float32, count)
                kernel = kernel.reshape(filters, channels, height, width).transpose(2, 3, 1, 0)
                layer.set_weights([kernel, bias] if norm is None else [kernel])

    def keras_h5(self) -> Callable[[], None]:
        """Loads Keras' own file."""
        path = self.folder / "model.weights.h5"
        self.model.save_weights(path)
        return lambda: self.model.load_weights(path)

    def checkpoint(self) -> Callable[[], None]:
        """Loads TensorFlow's own file."""
        variables = {str(i): v for i, v in enumerate(self.variables())}
        path = tf.train.Checkpoint(**variables).write(str(self.folder / "checkpoint"))

        def restore() -> None:
            tf.train.Checkpoint(**variables).read(path).assert_consumed()

        return restore

    def safetensors(self) -> Callable[[], None] | None:
        """Reads the arrays of a safetensors file and assigns them."""
        try:
            from safetensors.numpy import load_file, save_file
        except ImportError:
            return None
        path = self.folder / "model.safetensors"
        variables = {str(i): v for i, v in enumerate(self.variables())}
        save_file({name: v.numpy() for name, v in variables.items()}, path)

        def read() -> None:
            for name, array in load_file(path).items():
                variables[name].assign(array)

        return read

    def opencv(self) -> Callable[[], None] | None:
        """Runs OpenCV's reader, which keeps Darknet's layout and fills no variables."""
        try:
            import cv2
        except ImportError:
            return None
        path = self.folder / "model.cfg"
        path.write_text(self.network.to_cfg())

        def read() -> None:
            cv2.dnn.readNetFromDarknet(str(path), str(self.weights))

        return read

    def variables(self) -> list[Any]:
        """Returns all variables, in Keras' order."""
        return [plain(variable) for variable in self.model.variables]


def check(loaders: Loaders, ways: dict[str, Callable[[], None]]) -> None:
    """Raises unless all rows fill the model with the same values."""
    loaders.pure_python()
    expected = [variable.numpy() for variable in loaders.variables()]
    for name, way in ways.items():
        if name in (FLOOR, READ, INFERENCE, ARRAYS, "OpenCV"):
            continue
        for variable in loaders.variables():
            variable.assign(tf.zeros_like(variable))
        way()
        for variable, numbers in zip(loaders.variables(), expected, strict=True):
            if not np.array_equal(variable.numpy(), numbers):
                sys.exit(f"{name}: {variable.name} differs from what pure Python loads")
    loaders.inference()
    for ours, folded in loaders.folded_kernels():
        if not np.allclose(ours, folded, rtol=1e-5, atol=1e-7):
            sys.exit(f"{INFERENCE}: a kernel differs from the model's, batch norm folded")
    loaders.into_arrays()
    for key, variable in loaders.folded.stored.items():
        if not np.array_equal(variable.numpy(), loaders.arrays[key]):
            sys.exit(f"{ARRAYS}: {key} differs from the inference function's")
    loaders.floor()
    if loaders.memory.tobytes() != loaders.weights.read_bytes():
        sys.exit(f"{FLOOR}: the copy differs from the file")


def measure(
    ways: dict[str, Callable[[], None]], rounds: int, before: Callable[[], None]
) -> dict[str, list[float]]:
    """Returns milliseconds for every row and round; `before` is called before each turn."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for round_number in range(-1, rounds):  # the first round is not counted
        for name, way in ways.items():
            gc.collect()
            before()
            started = time.perf_counter()
            way()
            if round_number >= 0:
                times[name].append(1e3 * (time.perf_counter() - started))
    return times


def child(name: str, weights: Path, cfg: Path) -> list[float]:
    """Measures the rows of a process of `CHILDREN`, in milliseconds."""
    from yolotf.darknet.stock import as_network

    network = as_network(str(cfg))
    if name == COPY:
        return [_timed(lambda: _copied(weights))]
    if name == FIRST_RUNTIME:
        graph = NetworkGraph(network, use_onednn=FoldedNetwork(network).onednn)
        file, threads = WeightsFile.named(weights), op_library.thread_count()
        return [_timed(lambda: arrays.read_arrays(graph, file, verify=True, threads=threads))]
    model = yolotf.build_model(network)
    return [_timed(lambda: yolotf.load_darknet_weights(model, weights)) for _ in range(2)]


def _copied(weights: Path) -> Any:
    memory = np.empty(weights.stat().st_size, np.uint8)
    _core.copy_file(weights, memory, op_library.thread_count())
    return memory


def _timed(way: Callable[[], object]) -> float:
    started = time.perf_counter()
    way()
    return 1e3 * (time.perf_counter() - started)


def measure_first(network: yolotf.Network, weights: Path, rounds: int) -> dict[str, list[float]]:
    """Measures in fresh processes, which take turns; returns milliseconds."""
    times: dict[str, list[float]] = {name: [] for names in CHILDREN.values() for name in names}
    with tempfile.NamedTemporaryFile("w", suffix=".cfg") as cfg:
        cfg.write(network.to_cfg())
        cfg.flush()
        for _ in range(rounds):
            for name, measured in CHILDREN.items():
                settle()
                command = [sys.executable, __file__, "--child", name, str(weights), cfg.name]
                run = subprocess.run(command, capture_output=True, text=True, check=False)
                if run.returncode:
                    sys.exit(f"{name}: {run.stderr}")
                milliseconds_of_rows = json.loads(run.stdout.splitlines()[-1])
                for row, milliseconds in zip(measured, milliseconds_of_rows, strict=True):
                    times[row].append(milliseconds)
    return times


def rows_of(times: dict[str, list[float]], size_bytes: int, floor: str) -> list[dict[str, Any]]:
    """Returns the rows of a table, each with its ratio to the floor."""
    medians = {name: statistics.median(milliseconds) for name, milliseconds in times.items()}
    return [
        {
            "way": name,
            "median_ms": median,
            "minimum_ms": min(times[name]),
            "gb_per_second": size_bytes / median / 1e6,
            "to_floor": median / medians[floor],
            "to_pure_python": medians[PYTHON] / median if PYTHON in medians else None,
        }
        for name, median in medians.items()
    ]


def print_rows(title: str, rows: list[dict[str, Any]]) -> None:
    """Prints a table of `rows_of`."""
    headings = ["", "ms", "least ms", "GB/s", "times the floor"]
    if rows[0]["to_pure_python"] is not None:
        headings.append("times faster than pure Python")
    lines = []
    for row in rows:
        cells = [
            row["way"],
            f"{row['median_ms']:.1f}",
            f"{row['minimum_ms']:.1f}",
            f"{row['gb_per_second']:.2f}",
            f"{row['to_floor']:.2f}",
        ]
        if row["to_pure_python"] is not None:
            cells.append(f"{row['to_pure_python']:.1f}")
        lines.append(cells)
    print_table(title, headings, lines)


def main() -> None:
    """Runs all rows and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--cfg", help="a cfg or a stock network's name")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--cold", action="store_true", help="drop the file from the page cache")
    parser.add_argument("--folder", type=Path, help="where the made files go, on a disk")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        name, weights, cfg = arguments.child
        print(json.dumps(child(name, Path(weights), Path(cfg))))
        return
    if bool(arguments.weights) != bool(arguments.cfg):
        parser.error("--weights and --cfg go together")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        folder = Path(temporary)
        if arguments.weights:
            from yolotf.darknet.stock import as_network

            network, weights = as_network(arguments.cfg), arguments.weights
        else:
            network, weights = yolotf.network("yolov4", size=416), folder / "yolov4.weights"
            make_weights(network, weights)
        loaders = Loaders(weights, network, folder)
        loaders.pure_python()
        ways: dict[str, Callable[[], None] | None] = {
            FLOOR: loaders.floor,
            OP: loaders.op,
            WHOLE: loaders.whole,
            UNVERIFIED: loaders.unverified,
            INFERENCE: loaders.inference,
            ARRAYS: loaders.into_arrays,
            "yolotf portable path": loaders.portable,
            "OpenCV": loaders.opencv(),
            "safetensors": loaders.safetensors(),
            "tf.train.Checkpoint": loaders.checkpoint(),
            PYTHON: loaders.pure_python,
            "Keras .weights.h5": loaders.keras_h5(),
        }
        if arguments.cold:
            ways = {READ: loaders.read, **{name: ways[name] for name in _COLD}}
        present = {name: way for name, way in ways.items() if way is not None}
        check(loaders, present)
        before = loaders.drop if arguments.cold else lambda: None
        times = measure(present, arguments.rounds, before)
        first = {} if arguments.cold else measure_first(network, weights, arguments.rounds)
    size_bytes = loaders.file.size_bytes
    rows = rows_of(times, size_bytes, READ if arguments.cold else FLOOR)
    first_rows = rows_of(first, size_bytes, COPY)
    facts = {
        "network": network.source,
        "size_bytes": size_bytes,
        "processor": processor(),
        "threads": op_library.thread_count(),
        "isa": _core.scatter_isa(),
        "tensorflow": tf.__version__,
        "rounds": arguments.rounds,
        "cold": arguments.cold,
    }
    if arguments.json:
        print(json.dumps({**facts, "rows": rows, "first": first_rows}, indent=1))
        return
    print_rows(
        f"{network.source}, {size_bytes:,} bytes, {facts['processor']}, {facts['threads']} "
        f"threads, {facts['isa']}, TensorFlow {facts['tensorflow']}, median of {arguments.rounds}",
        rows,
    )
    if first_rows:
        print_rows("fresh processes", first_rows)


if __name__ == "__main__":
    main()
