"""A network with replaceable weights: the common core of `Detector` and `Classifier`."""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from yolotf.darknet import cfg
from yolotf.graphs import tf_errors
from yolotf.images.read import ImageLike, read_picture
from yolotf.inference.diagnosed_errors import diagnosed
from yolotf.inference.engines import open_engine
from yolotf.inference.recurrent_state import StatefulRunner
from yolotf.runtime.engine import LoadedWeights
from yolotf.runtime.options import ServingOptions
from yolotf.weights import op_library
from yolotf.weights.file import WeightsFile, WeightsSource
from yolotf.weights.header import Header

Array = npt.NDArray[Any]
Result = TypeVar("Result")
Owner = TypeVar("Owner")

_RELOAD_ADVICE = "create a new instance with classes={classes}, as reload keeps the network"
"""Advice of `reload`; see `Diagnosis.with_argument`."""


@dataclass(frozen=True)
class ServedWeights:
    """The weights file in use.

    Attributes:
        path: path or name of the file.
        header: its header.
    """

    path: str
    header: Header

    @property
    def seen(self) -> int:
        """Number of images the network was trained on."""
        return self.header.seen


@dataclass(frozen=True, eq=False)
class ActiveWeights:
    """Weights in memory, freed with the last request that uses them.

    Attributes:
        loaded: the weights, as the engine uses them.
        source: the file they came from.
        absolute_path: of the file, from the working folder in which it was opened; None if it
            cannot be read again.
    """

    loaded: LoadedWeights
    source: ServedWeights
    absolute_path: str | None

    @classmethod
    def of(cls, loaded: LoadedWeights, file: WeightsFile) -> ActiveWeights:
        """Returns the weights loaded from `file`."""
        path = None
        if file.is_named_file:
            path = os.path.abspath(file.path)  # noqa: PTH100 - keeps links as they are
        return cls(loaded, ServedWeights(file.name, loaded.header), path)


class ServedNetwork:
    """An engine and its active weights, which can be replaced while requests are served.

    Thread-safe.

    Attributes:
        network: the network.
        options: how images are read and computed.
        engine: the inference engine.
        active: the active weights, replaced as a whole.
        reloads: how many times they have been replaced.
    """

    def __init__(
        self,
        network: cfg.Network,
        weights: WeightsSource,
        options: ServingOptions,
        *,
        computed: cfg.Network | None = None,
    ) -> None:
        """Builds the graph and loads the file.

        Args:
            network: the network.
            weights: the `.weights` file, as `load_darknet_weights` takes it.
            options: how images are read and computed.
            computed: the part of the network to compute; None: all of it.

        Raises:
            WeightsMismatch: the file does not match the network; has a `diagnosis`.
            UnsupportedSectionError: the network has sections that are not supported.
            OSError: the file cannot be read.
            OutOfMemoryError: one image needs more memory than the process may use.
            ImportError: the engine is not installed.
        """
        self.network = network
        self.options = options
        self.threads = options.threads or op_library.thread_count()
        self.reloads = 0
        self._reloading = threading.Lock()
        with self._opened(weights) as file, diagnosed(file, network):
            self.engine, loaded = open_engine(computed or network, file, options, self.threads)
            self.active = ActiveWeights.of(loaded, file)
        self._runner = StatefulRunner(self.engine)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the network's input."""
        return self.network.input_shape.height, self.network.input_shape.width

    @property
    def stateful(self) -> bool:
        """Whether the result for an image depends on earlier images (recurrent networks)."""
        return self._runner.stateful

    def reset(self) -> None:
        """Resets the recurrent state: the next image starts a new video."""
        self._runner.reset()

    def reload(self, weights: WeightsSource) -> None:
        """Loads another file beside the active one and replaces it atomically.

        Raises:
            WeightsMismatch: the file does not match the network; the old weights stay active.
            OSError: the file cannot be read; the old weights stay active.
        """
        with (
            self._opened(weights) as file,
            self._reloading,
            diagnosed(file, self.network, _RELOAD_ADVICE),
        ):
            self.active = ActiveWeights.of(self.engine.load(file), file)
            self.reloads += 1

    def path_for_copies(self, owner: str) -> str:
        """Returns the path from which another process can read the active weights.

        Args:
            owner: the class of the object being pickled or copied.

        Raises:
            TypeError: the weights were not loaded from a file.
        """
        active = self.active
        if active.absolute_path is None:
            raise TypeError(
                f"a {owner} whose weights came from {active.source.path} cannot be pickled or "
                "copied, as only a file can be read again; write the weights to a file, and create "
                f"the {owner} from that"
            )
        return active.absolute_path

    def hwio_weights(self) -> Any:
        """Returns the active weights for a SavedModel, see `Engine.hwio_weights`."""
        return self.engine.hwio_weights(self.active.loaded)

    def run(
        self,
        images: Sequence[ImageLike],
        prepare: Callable[[Sequence[Array]], npt.NDArray[np.float32]],
        decode: Callable[[list[Array], Sequence[Array]], Iterable[Result]],
    ) -> list[Result]:
        """Returns a result for each image, all computed with the same weights.

        Args:
            images: any number; read batch by batch, or all at once for a recurrent network.
            prepare: maps images, [height, width, channels] uint8 or float32 with the network's
                channels, to the network's input.
            decode: maps raw heads, and the images they were computed from, to results.

        Raises:
            OSError: an image cannot be read.
            OutOfMemoryError: a batch needs more memory than the process may use.
            EngineError: inference fails.
        """
        results: list[Result] = []
        batch_size = self.options.batch_size
        # Read all first: an unreadable image must not leave earlier ones in the recurrent state.
        frames = [self._read(image) for image in images] if self.stateful else None
        with self._runner:
            weights = self.active.loaded  # one set of weights for all images, even during a reload
            for start in range(0, len(images), batch_size):
                if frames is None:
                    batch = [self._read(image) for image in images[start : start + batch_size]]
                else:
                    batch = frames[start : start + batch_size]
                with tf_errors.translate_errors(self.network, len(batch)):
                    heads = self._runner.raw_heads(prepare(batch), weights)
                    results.extend(decode(heads, batch))
        return results

    def _opened(self, weights: WeightsSource) -> AbstractContextManager[WeightsFile]:
        return WeightsFile.open(weights, network=self.network, timeout=self.options.timeout)

    def _read(self, image: ImageLike) -> Array:
        return read_picture(
            image,
            self.network.input_shape.channels,
            bgr=self.options.bgr,
            max_pixels=self.options.max_pixels,
        )


def rebuilt(kind: type[Owner], network: cfg.Network, path: str, arguments: dict[str, Any]) -> Owner:
    """Returns the object that was pickled, constructed again from its arguments.

    In a process of multiprocessing, an error is raised when the object is used, not here: a worker
    of a `Pool` that cannot unpickle a task exits, silently at an `OSError`, and the pool waits for
    the result forever.

    Args:
        kind: its class, `Detector` or `Classifier`.
        network: its first argument.
        path: its second argument, the weights file.
        arguments: its keyword arguments.

    Raises:
        FileNotFoundError: the weights file does not exist here.
        Exception: any other error of the constructor.
    """
    try:
        return _constructed(kind, network, path, arguments)
    except Exception as error:
        if not _is_of_multiprocessing():
            raise
        return _failing(kind, error)


def _is_of_multiprocessing() -> bool:
    """Returns whether multiprocessing started this process, without importing it."""
    process = sys.modules.get("multiprocessing.process")
    return process is not None and process.parent_process() is not None


def _constructed(
    kind: Callable[..., Owner], network: cfg.Network, path: str, arguments: dict[str, Any]
) -> Owner:
    try:
        return kind(network, path, **arguments)
    except FileNotFoundError as error:
        if error.filename != path:
            raise
        owner = kind.__name__
        raise FileNotFoundError(
            errno.ENOENT,
            f"a pickled {owner} contains the path of its weights file, not the weights, and the "
            f"file is missing here; copy it to this path, or create the {owner} from another path",
            path,
        ) from error


def _failing(kind: type[Owner], error: Exception) -> Owner:
    """Returns an object of `kind` without attributes, the use of which raises `error`."""

    def fail(self: object, name: str) -> Any:
        if name.startswith("__"):  # looked up by Python and by libraries, which expect this error
            raise AttributeError(name)
        raise error

    members = {"__getattr__": fail, "__module__": kind.__module__, "__doc__": kind.__doc__}
    return object.__new__(type(kind.__name__, (kind,), members))
