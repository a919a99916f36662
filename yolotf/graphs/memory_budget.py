"""Lower bounds of a run's memory, and whether the process can allocate it.

Most of a network is oneDNN's convolution, which aborts the process if TensorFlow cannot allocate
its output (TensorFlow 2.21: `MklConvOp::Compute` continues without one). Runs that cannot fit are
therefore rejected beforehand. TensorFlow is not imported.
"""

from __future__ import annotations

import math
import mmap
import os
import re
import resource
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from yolotf.darknet import cfg, graph_checks
from yolotf.errors import OutOfMemoryError
from yolotf.graphs import sections as sections  # registers the footprints
from yolotf.graphs.lowering import Footprint, footprint
from yolotf.graphs.tf_errors import input_text, smaller_advice
from yolotf.text import size_text

_FLOAT_BYTES = 4
_LARGE = 1 << 28
"""Bytes. A larger run takes so long that checking the available memory each time is cheap."""


def peak_floats(network: cfg.Network) -> int:
    """Returns a lower bound of the floats in memory at a time while one image is computed.

    Counts the image, and the inputs and output of a section known to need both. Not counted are
    outputs that later sections will read, and arrays that may be computed in place or never be
    materialized.
    """
    footprints: dict[int, Footprint] = {cfg.NETWORK_INPUT: Footprint()}
    peak = 0
    for index in sorted(graph_checks.used_layers(network)):
        layer = network.layers[index]
        inputs = [footprints[number] for number in set(layer.inputs)]
        # Concatenated outputs may share parts, so only the largest counts.
        joined = max((output.output for output in inputs if output.joined), default=0)
        separate = sum(output.output for output in inputs if not output.joined)
        in_parts = any(output.in_parts for output in inputs)
        footprints[index] = footprint(layer, max(joined, separate), in_parts)
        peak = max(peak, footprints[index].peak)
    return network.input_shape.floats + peak


@dataclass(frozen=True)
class RunMemory:
    """The memory needed by the runs of a network.

    Attributes:
        network: the network.
        image_bytes: lower bound for one image.
        weights_bytes: size of the weights.
    """

    network: cfg.Network
    image_bytes: int
    weights_bytes: int

    @classmethod
    def of(cls, network: cfg.Network, shapes: Iterable[tuple[int, ...]]) -> RunMemory:
        """Returns the memory of a network with arrays of the given shapes."""
        weights_floats = sum(map(math.prod, shapes))
        return cls(network, _FLOAT_BYTES * peak_floats(network), _FLOAT_BYTES * weights_floats)

    def check(self) -> None:
        """Checks that the process could ever run the network.

        Raises:
            OutOfMemoryError: one image needs more memory than the process may use.
        """
        allowed = allowed_bytes()
        if allowed is not None and self.image_bytes + self.weights_bytes > allowed:
            raise self._refusal(self.image_bytes, 1, allowed)

    @contextmanager
    def reserve(self, batch: int, share: float = 1.0) -> Iterator[None]:
        """Reserves memory for a run; waits while other runs of this process leave too little.

        Args:
            batch: number of images; their input is in memory already.
            share: pixels of an image relative to the network's input.

        Raises:
            OutOfMemoryError: there is not enough memory even without the other runs.
        """
        needed = int(self.image_bytes * batch * share)
        input_bytes = int(_FLOAT_BYTES * self.network.input_shape.floats * batch * share)
        if needed > _LARGE:
            allowed = allowed_bytes()
            if allowed is not None and needed > allowed:
                raise self._refusal(needed, batch, allowed)
        if not _admission.enter(needed - input_bytes):
            raise self._refusal(needed, batch, allowed_bytes(), taken_bytes())
        try:
            yield
        finally:
            _admission.leave(needed - input_bytes)

    def _refusal(
        self, needed: int, batch: int, allowed: int | None, taken: int | None = None
    ) -> OutOfMemoryError:
        height, width, _ = self.network.input_shape
        images = "one image" if batch == 1 else f"{batch} images"
        text = (
            f"{self.network.source}: {input_text(self.network)} needs at least "
            f"{size_text(needed)} for {images}"
        )
        if taken is None:
            text += f" and {size_text(self.weights_bytes)} for weights"
        if allowed is None:
            text += ", and the system provides less"
        else:
            text += f", but this process may use {size_text(allowed)}"
        if taken is not None:
            text += f" and has taken {size_text(taken)}"
        return OutOfMemoryError(
            f"{text}; {smaller_advice(batch)}",
            source=self.network.source,
            input_size=(height, width),
            batch=batch,
            needed=needed,
            allowed=allowed,
            taken=taken,
        )


class _Admission:
    """Admits runs while there is memory for all of them; others wait until some have ended."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._promised = 0

    def enter(self, size_bytes: int) -> bool:
        """Waits for enough memory; returns False if no other run is left that could release any."""
        with self._changed:
            # Memory that other runs have allocated already counts twice, which at worst delays a
            # run.
            while not _obtainable(self._promised + size_bytes):
                if not self._promised:
                    return False
                self._changed.wait()
            self._promised += size_bytes
        return True

    def leave(self, size_bytes: int) -> None:
        """Releases the memory of a run."""
        with self._changed:
            self._promised -= size_bytes
            self._changed.notify_all()


_admission = _Admission()


def _after_fork() -> None:
    global _admission
    _admission = _Admission()  # the parent's runs do not exist in the child


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _obtainable(size_bytes: int) -> bool:
    """Returns whether the system grants this much more memory; it is released untouched."""
    if size_bytes <= 0:
        return True
    try:
        mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except (OSError, OverflowError):
        return False
    return True


def allowed_bytes() -> int | None:
    """Returns the most memory that this process may use; None if unknown."""
    known = [size for size in (_machine_bytes(), *_limits()) if size is not None]
    return min(known, default=None)


def _limits() -> Iterator[int]:
    """Yields the limits of the process: `ulimit -v` and `ulimit -d`."""
    for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
        soft, _ = resource.getrlimit(kind)
        if soft != resource.RLIM_INFINITY:
            yield soft


def _machine_bytes() -> int | None:
    """Returns the memory of the machine or container, plus swap."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
    if memory <= 0:
        return None
    swap = re.search(r"SwapTotal:\s*(\d+) kB", _text("/proc/meminfo"))
    return min([memory, *_group_limits()]) + (int(swap[1]) << 10 if swap else 0)


def _group_limits() -> Iterator[int]:
    """Yields the limits of the process's control groups and their ancestors (cgroups(7))."""
    for line in _text("/proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            root, name = Path("/sys/fs/cgroup"), "memory.max"
        elif "memory" in controllers.split(","):
            root, name = Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"
        else:
            continue
        folder = root / path.lstrip("/")
        while folder != root.parent:
            # "max" means no limit; inside a container the outer groups are not visible.
            limit = _text(folder / name).strip()
            if limit.isdigit():
                yield int(limit)
            folder = folder.parent


def taken_bytes() -> int | None:
    """Returns the memory of this process that counts towards `ulimit -v`."""
    pages = _text("/proc/self/statm").split()
    return int(pages[0]) * mmap.PAGESIZE if pages else None


def _text(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
