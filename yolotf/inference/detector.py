"""`Detector`: network and file -> what is in a picture. No TensorFlow Python is imported."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Union, overload

import numpy.typing as npt

from yolotf._public import public
from yolotf.darknet import cfg
from yolotf.darknet import stock as networks
from yolotf.darknet.class_names import Names, names_for
from yolotf.darknet.decoding import tree_of_heads
from yolotf.darknet.graph_checks import check_forgetful
from yolotf.errors import WeightsMismatch
from yolotf.files.fetching import TIMEOUT
from yolotf.files.sources import StrPath
from yolotf.graphs import saved_model, tf_errors
from yolotf.images.detections import Detections
from yolotf.images.read import MAX_PIXELS, Picture, Pictures, images_of, read_picture
from yolotf.inference.explained import explained
from yolotf.inference.options import Only, thresholds
from yolotf.inference.recurrent_state import Stream
from yolotf.inference.served_network import Served, ServedWeights, unpickled
from yolotf.runtime import tensorflow_library
from yolotf.runtime.decoding import Decoder
from yolotf.runtime.network import RuntimeNetwork
from yolotf.runtime.resize import fit
from yolotf.text import printable
from yolotf.weights import catalog, op_library
from yolotf.weights.file import WeightsFile, WeightsSource

if TYPE_CHECKING:
    from yolotf.inference.tensorflow_engine import TracedNetwork

Array = npt.NDArray[Any]
_Engine = Union[RuntimeNetwork, "TracedNetwork"]

_THREADS_MOST = 4096
"""More than there are processors anywhere; TensorFlow ends the process where it gets no more."""


@public
class Detector:
    """Finds things in pictures; safe to call from many threads, also while it reloads.

    A network with a memory (`[crnn]`, `[conv_lstm]`, ...) sees the pictures of all calls as frames
    of one video, in their order: make a detector for each video that runs at the same time, and
    `reset` it before the next.

    It runs TensorFlow's kernels without TensorFlow's Python. Where TensorFlow would use a GPU, it
    imports TensorFlow and lets it.

    Attributes:
        network: the network.
        names: class names, empty if none are known.
        reloads: how many times the weights have been changed.
    """

    def __init__(
        self,
        network: cfg.Network | cfg.Source,
        weights: WeightsSource,
        *,
        names: Names = None,
        score: float = 0.25,
        iou: float = 0.45,
        max_boxes: int = 300,
        nms_kind: str | None = None,
        agnostic: bool = False,
        only: Only = None,
        batch_size: int = 8,
        threads: int | None = None,
        letter_box: bool | None = None,
        bgr: bool = False,
        max_pixels: int | None = MAX_PIXELS,
        timeout: float | None = TIMEOUT,
    ) -> None:
        """Builds the graph and loads the file.

        Args:
            network: a `Network`, a stock name, or a cfg's path or text.
            weights: the `.weights` file, as `load_darknet_weights` takes it.
            names: class names, or a file with one a line; a class tree brings its own.
            score: lowest score of a detection.
            iou: boxes of one class that overlap more exclude each other.
            max_boxes: detections per picture, the best ones.
            nms_kind: `default`, `greedynms` or `diounms` in place of the cfg's.
            agnostic: boxes of different classes exclude each other, too.
            only: the classes to detect, by name or number from 0, as a list or as text with
                commas between; boxes of others exclude none. None: all.
            batch_size: pictures of a list that go through the network at once.
            threads: that this detector computes with, apart from all others; None: the
                processors that the process may use.
            letter_box: whether pictures keep their proportions, in place of the cfg's.
            bgr: arrays hold blue first, as OpenCV reads pictures; files are what they are.
            max_pixels: a file of more is refused before it is decoded; None: none is.
            timeout: seconds that the server of weights at a URL may be silent, also in `reload`;
                None: any.

        Raises:
            WeightsMismatch: file and network do not belong together; with its `diagnosis`.
            UnsupportedSectionError: the network has sections or heads this cannot express.
            YolotfError: there are more or fewer names than classes, `only` names no class, or the
                class tree is none.
            OSError: a file cannot be read, or the class tree is not there; see `with_tree`.
            OutOfMemoryError: one picture needs more memory than the process may use.
            ImportError: TensorFlow is not installed.
        """
        if not (only is None or isinstance(only, str)):
            only = tuple(only)  # an iterator is read once only
        for what, value in (("batch_size", batch_size), ("threads", threads)):
            if value is not None and value < 1:
                raise ValueError(f"{what}={value} must be at least 1")
        if threads is not None and threads > _THREADS_MOST:
            raise ValueError(f"threads={threads} must be at most {_THREADS_MOST}")
        self._options: dict[str, Any] = {
            "score": score,
            "iou": iou,
            "max_boxes": max_boxes,
            "nms_kind": nms_kind,
            "agnostic": agnostic,
            "only": only,
            "batch_size": batch_size,
            "threads": threads,
            "letter_box": letter_box,
            "bgr": bgr,
            "max_pixels": max_pixels,
            "timeout": timeout,
        }
        self.network = _with_letter_box(networks.as_network(network), letter_box)
        for text in (*self.network.warnings, *catalog.stock_warnings(self.network)):
            warnings.warn(text, stacklevel=2)
        self.names = names_for(names, self.network.classes, self.network.source)
        tree = tree_of_heads(self.network)
        if tree and not self.names:
            self.names = tree.names
        self._wanted = thresholds(
            self.network,
            score,
            iou,
            max_boxes,
            nms_kind,
            agnostic=agnostic,
            only=only,
            names=self.names,
        )
        self._decoder = Decoder(self.network, self._wanted.suppression)
        self._threads = threads or op_library.thread_count()
        self._batch_size = batch_size
        self._bgr = bgr
        self._max_pixels = max_pixels
        self._timeout = timeout
        self._reloading = threading.Lock()
        with self._opened(weights) as file:
            try:
                self._engine, loaded = open_engine(self.network, file, self._threads)
            except WeightsMismatch as error:
                raise explained(error, file, self.network) from None
        self._active = Served.of(loaded, file)
        self._stream = Stream(self._engine)
        self.reloads = 0

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) that pictures are brought to."""
        return self.network.input_shape.height, self.network.input_shape.width

    @property
    def stateful(self) -> bool:
        """Whether what it finds in a picture depends on those before it."""
        return self._stream.keeps

    def reset(self) -> None:
        """Forgets all pictures so far: the next is the first of another video."""
        self._stream.reset()

    @property
    def weights(self) -> ServedWeights:
        """The file that serves now."""
        return self._active.about

    def __repr__(self) -> str:
        height, width = self.size
        classes = self.network.classes
        return printable(
            f"<yolotf.Detector {self.network.name or self.network.source}, {width}x{height}, "
            f"{'heads of several' if classes is None else classes} "
            f"class{'es' * (classes != 1)}, {self.weights.path}>"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """By its arguments: the other process, or the copy, reads the file that serves now."""
        path = self._active.file("Detector")
        return _rebuild, (self.network, path, {**self._options, "names": self.names or None})

    # The type of an array does not say how many axes it has.
    @overload
    def __call__(self, pictures: Array) -> Any: ...

    @overload
    def __call__(self, pictures: Picture) -> Detections: ...

    @overload
    def __call__(self, pictures: Pictures) -> list[Detections]: ...

    def __call__(self, pictures: Picture | Pictures) -> Detections | list[Detections]:
        """Detects in one picture or in each of a list or batch.

        Args:
            pictures: a path, a Pillow image, encoded bytes, an open file, or an array or tensor
                [height, width, channels] RGB (grey ones may lack the last axis), uint8 or float
                in 0..1; or several of these, of any sizes, in a list or tuple; or an array or
                tensor [batch, height, width, channels].

        Returns:
            `Detections` in pixels of the picture; of several pictures, a list of them.

        Raises:
            OSError: a picture cannot be read.
            OutOfMemoryError: there is no memory for it.
            TensorFlowError: TensorFlow refuses to run it.
            ForkedProcessError: the process was forked after a detector had been made.
        """
        images, several = images_of(pictures)
        found = self._detect(images)
        return found if several else found[0]

    def reload(self, weights: WeightsSource) -> None:
        """Changes to another file of the same network while requests are served.

        The file is checked and loaded into a second set of weights, which is put in place in one
        step. Requests that have begun finish on the old weights, later ones use the new; the old
        are freed with the last request that uses them. What the old ones remember is forgotten.

        Raises:
            WeightsMismatch: the file does not belong to the network; nothing has changed.
            OSError: the file cannot be read; nothing has changed.
        """
        with self._opened(weights) as file, self._reloading:
            self._active = self._load(file)
            self.reloads += 1

    def export(self, folder: StrPath, *, overwrite: bool = True) -> None:
        """Writes a SavedModel of standard operations only; imports TensorFlow for it.

        Signatures, both answering `boxes` [batch, max_boxes, 4] (left, top, right, bottom in
        pixels), `scores` and `classes` [batch, max_boxes] and `counts` [batch]:

        * `serving_default`: `images` uint8 [batch, height, width, channels], of any one size;
        * `encoded`: `images` string [batch], JPEG or PNG files, for networks of 1 or 3 channels.
          Unlike `__call__` it does not turn photographs upright. It answers `readable` bool
          [batch] as well: a file that cannot be decoded has no detections, and the others theirs.

        Names, if there are any, are written to the asset `assets/classes.names`, and to
        `assets.extra/classes.names`. TensorFlow Serving runs both signatures once before it
        answers (`assets.extra/tf_serving_warmup_requests`). An older SavedModel is replaced in
        one step when the new one is complete; in a folder that holds other files, too, they stay.

        Args:
            folder: where to.
            overwrite: False refuses to replace an older SavedModel.

        Raises:
            OSError: the folder cannot be written, or holds a SavedModel that is not to be
                replaced; an older one is as it was.
            UnsupportedSectionError: the network has a memory.
        """
        saved_model.check(folder, overwrite=overwrite)
        check_forgetful(self.network, "a SavedModel has no video to keep it for; use the Detector")
        from yolotf.inference import export  # imports TensorFlow
        from yolotf.inference.detector_function import InferenceFunction  # likewise

        wanted = self._wanted
        function = InferenceFunction(
            self.network,
            score=wanted.score,
            iou=wanted.iou,
            max_boxes=wanted.max_boxes,
            nms_kind=wanted.suppression.kind,
            agnostic=wanted.agnostic,
            only=self._options["only"],
            names=self.names,
        )
        weights = self._engine.unblocked_weights(self._active.loaded)
        with saved_model.replacing(folder, overwrite=overwrite) as ready:
            export.write(function, weights, ready, names=self.names or ())

    def _opened(self, weights: WeightsSource) -> AbstractContextManager[WeightsFile]:
        return WeightsFile.open(weights, network=self.network, timeout=self._timeout)

    def _load(self, file: WeightsFile) -> Served:
        try:
            loaded = self._engine.load(file)
        except WeightsMismatch as error:
            raise explained(error, file, self.network) from None
        return Served.of(loaded, file)

    def _read(self, picture: Picture) -> Array:
        """[height, width, channels], uint8 or float32, in the network's channels."""
        channels = self.network.input_shape.channels
        return read_picture(picture, channels, bgr=self._bgr, max_pixels=self._max_pixels)

    def _detect(self, pictures: Sequence[Picture]) -> list[Detections]:
        found: list[Detections] = []
        if self.stateful:
            # One that cannot be read is told of before the others are frames that were seen.
            pictures = [self._read(picture) for picture in pictures]
        with self._stream:
            weights = self._active.loaded  # the same for all of them
            for start in range(0, len(pictures), self._batch_size):
                # No more of a long list is in memory at a time.
                some = [self._read(one) for one in pictures[start : start + self._batch_size]]
                with tf_errors.explained(self.network, len(some)):
                    found += self._detect_batch(weights, some)
        return found

    def _detect_batch(self, weights: Any, arrays: Sequence[Array]) -> list[Detections]:
        inputs = fit(
            arrays,
            self.network.input_shape,
            letter_box=self.network.letter_box,
            threads=self._threads,
        )
        raws = self._stream.raw_heads(inputs, weights)
        found = self._decoder(
            raws,
            self.size,
            [array.shape[:2] for array in arrays],
            score=self._wanted.score,
            iou=self._wanted.iou,
            max_boxes=self._wanted.max_boxes,
            agnostic=self._wanted.agnostic,
            unwanted=self._wanted.unwanted,
            threads=self._threads,
        )
        return [Detections.of(one.boxes, one.scores, one.classes, self.names) for one in found]


def _rebuild(network: cfg.Network, weights: str, options: dict[str, Any]) -> Detector:
    return unpickled(lambda: Detector(network, weights, **options), "Detector", weights)


def _with_letter_box(network: cfg.Network, letter_box: bool | None) -> cfg.Network:
    if letter_box is None or network.letter_box == letter_box:
        return network
    return replace(network, net=network.net.with_option("letter_box", int(letter_box)))


def open_engine(network: cfg.Network, file: WeightsFile, threads: int) -> tuple[_Engine, Any]:
    """What computes the heads, and the file's numbers for it."""
    if tensorflow_library.has_gpu():
        from yolotf.inference.tensorflow_engine import TracedNetwork  # imports TensorFlow

        traced = TracedNetwork(network)
        return traced, traced.load(file)
    return RuntimeNetwork.opened(network, file, threads=threads)
