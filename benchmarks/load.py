"""How long it takes to get a `.weights` file into a Keras model, ways compared in one process.

    python benchmarks/load.py                                    # a file of YOLOv4's size
    python benchmarks/load.py --weights F --cfg C [--json]
    python benchmarks/load.py --cold                             # the file not in the page cache

Every way is first checked to give the same variables. Then they take turns, with the file in the
page cache. The floor is what no loader can beat: the file mapped and copied by memcpy, with the
op's number of threads, into memory that is there already, in huge pages where the kernel gives
them. The pure Python loader is of the classic kind: np.fromfile, reshape, transpose, set_weights.

With `--cold` the kernel drops the file's pages before every turn (posix_fadvise; of a file on a
disk, not of one in a tmpfs: see --folder), and the floor is a plain sequential read.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
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
from common import make_weights, print_table

import yolotf
from yolotf import _core
from yolotf.graphs.folded_network import FoldedNetwork
from yolotf.graphs.network import NetworkGraph
from yolotf.loading import planning
from yolotf.models.variables import plain
from yolotf.runtime import arrays
from yolotf.weights import op_library as _native
from yolotf.weights import write as writing
from yolotf.weights.file import WeightsFile

FLOOR, OP, WHOLE, PYTHON = "memcpy (floor)", "yolotf op", "load_darknet_weights", "pure Python"
UNVERIFIED = "load_darknet_weights, verify=False"
INFERENCE = "inference function"
ARRAYS = "runtime"
READ = "sequential read (floor)"


class Loaders:
    """The ways to load, each a function without arguments."""

    def __init__(self, weights: Path, network: yolotf.Network, folder: Path) -> None:
        self.weights = weights
        self.network = network
        self.folder = folder
        self.model = yolotf.build_model(network)
        self.plan = planning.plan_for(self.model, network)
        self.file = WeightsFile.named(weights)
        self.header = self.file.header(self.plan.floats)
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
        """Maps the file and copies it into memory that is there already."""
        _core.copy_file(self.weights, self.memory, _native.thread_count())

    def read(self) -> None:
        """Reads the file from beginning to end, 1 MB at a time, and keeps nothing."""
        piece = bytearray(1 << 20)
        with self.weights.open("rb", buffering=0) as file:
            while file.readinto(piece):
                pass

    def drop(self) -> None:
        """Makes the kernel forget the file's pages."""
        with self.weights.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def op(self) -> None:
        """The native load alone, checks included."""
        stats = writing.write(self.file, self.header, self.plan, cast=False, verify=True)
        assert stats.path_taken == "op"

    def unverified(self) -> None:
        """The public call without a look at the content."""
        yolotf.load_darknet_weights(self.model, self.weights, verify=False)

    def whole(self) -> None:
        """The public call, the walk of the model included."""
        yolotf.load_darknet_weights(self.model, self.weights)

    def inference(self) -> None:
        """As a server does: batch norm folded, written while the file is read."""
        self.folded.load(self.weights, contents_disposable=True)

    def into_arrays(self) -> None:
        """As `inference`, without TensorFlow: the arrays a `Detector` computes with."""
        plan = self.graph.plan(transposed=self.header.transposed)
        targets = [self.arrays[one.slot.variable] for one in plan.assignments]
        threads = _native.thread_count()
        writing.write_arrays(self.file, self.header, plan, targets, verify=True, threads=threads)

    def folded_kernels(self) -> Iterator[tuple[Any, Any]]:
        """What `inference` made of the kernels, and what the model's variables fold to."""
        whole = self.folded.unblocked_weights()
        for layer, norm_name in self.layers:
            kernel, norm = np.array(layer.kernel, np.float64), self.norms.get(norm_name)
            if norm is not None:
                kernel *= np.array(norm.gamma) / np.sqrt(np.array(norm.moving_variance) + 1e-5)
            yield whole[layer.name.removeprefix("conv_") + "/kernel"].numpy(), kernel

    def portable(self) -> None:
        """What serves where the op cannot: memory of our own, taken over by the variables."""
        with mock.patch.object(writing, "_op_can", return_value=False):
            stats = writing.write(self.file, self.header, self.plan, cast=False, verify=True)
        assert stats.path_taken == "portable"

    def pure_python(self) -> None:
        """As the well-known loaders do it."""
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
        """Keras' own file."""
        path = self.folder / "model.weights.h5"
        self.model.save_weights(path)
        return lambda: self.model.load_weights(path)

    def checkpoint(self) -> Callable[[], None]:
        """TensorFlow's own file."""
        variables = {str(i): v for i, v in enumerate(self.variables())}
        path = tf.train.Checkpoint(**variables).write(str(self.folder / "checkpoint"))

        def restore() -> None:
            tf.train.Checkpoint(**variables).read(path).assert_consumed()

        return restore

    def safetensors(self) -> Callable[[], None] | None:
        """A file with names and shapes, read to arrays and assigned."""
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
        """OpenCV's reader, which keeps Darknet's layout and makes no variables."""
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
        """All variables, in Keras' order."""
        return [plain(variable) for variable in self.model.variables]


def check(loaders: Loaders, ways: dict[str, Callable[[], None]]) -> None:
    """Sees to it that all ways that fill the model fill it alike."""
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
    """Milliseconds of every way and round; the ways take turns, `before` each is called."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for round_number in range(-1, rounds):  # the first is not counted
        for name, way in ways.items():
            gc.collect()
            before()
            started = time.perf_counter()
            way()
            if round_number >= 0:
                times[name].append(1e3 * (time.perf_counter() - started))
    return times


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--cfg", help="a cfg or a stock network's name")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--cold", action="store_true", help="drop the file from the page cache")
    parser.add_argument("--folder", type=Path, help="where the made files go, on a disk")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse_args()
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
            ways = {READ: loaders.read} | {
                name: ways[name] for name in (OP, WHOLE, INFERENCE, PYTHON)
            }
        present = {name: way for name, way in ways.items() if way is not None}
        check(loaders, present)
        before = loaders.drop if arguments.cold else lambda: None
        times = measure(present, arguments.rounds, before)
    size_bytes = loaders.file.size_bytes
    floor = READ if arguments.cold else FLOOR
    medians = {name: statistics.median(found) for name, found in times.items()}
    rows = [
        {
            "way": name,
            "median_ms": median,
            "minimum_ms": min(times[name]),
            "gb_per_second": size_bytes / median / 1e6,
            "to_floor": median / medians[floor],
            "to_pure_python": medians[PYTHON] / median,
        }
        for name, median in medians.items()
    ]
    facts = {
        "network": network.source,
        "size_bytes": size_bytes,
        "threads": _native.thread_count(),
        "isa": _core.scatter_isa(),
        "tensorflow": tf.__version__,
        "rounds": arguments.rounds,
        "cold": arguments.cold,
    }
    if arguments.json:
        print(json.dumps({**facts, "rows": rows}, indent=1))
        return
    print_table(
        f"{network.source}, {size_bytes:,} bytes, {facts['threads']} threads, "
        f"{facts['isa']}, TensorFlow {facts['tensorflow']}, median of {arguments.rounds}",
        ("", "ms", "GB/s", "times the floor", "times faster than pure Python"),
        [
            (
                row["way"],
                f"{row['median_ms']:.1f}",
                f"{row['gb_per_second']:.2f}",
                f"{row['to_floor']:.2f}",
                f"{row['to_pure_python']:.1f}",
            )
            for row in rows
        ],
    )


if __name__ == "__main__":
    main()
