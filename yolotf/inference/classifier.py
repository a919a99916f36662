"""`Classifier`: network and file -> what a picture is of. No TensorFlow Python is imported."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from yolotf._public import public, renamed
from yolotf.darknet import cfg
from yolotf.darknet import stock as networks
from yolotf.darknet.class_names import Names, names_for
from yolotf.darknet.graph_checks import check_forgetful
from yolotf.files.sources import StrPath
from yolotf.graphs import saved_model
from yolotf.images.read import Picture, Pictures, images_of
from yolotf.inference.classifier_head import classes_of
from yolotf.inference.classifier_images import Resize, check_resize, prepare, prepare_all
from yolotf.inference.served_network import Array, ServedNetwork, ServedWeights, unpickled
from yolotf.runtime.options import EngineName, Precision, ServingOptions
from yolotf.text import plural, printable
from yolotf.weights.file import WeightsSource

__all__ = ["Classification", "Classifier", "Rated", "prepare"]

_Floats = npt.NDArray[np.float32]


class Rated(NamedTuple):
    """One class of an answer."""

    class_id: int
    name: str
    score: float


@public
@dataclass(frozen=True, eq=False)
class Classification:
    """The most likely classes of one picture, the likeliest first.

    Attributes:
        classes: [K] int64, class numbers from 0.
        scores: [K] float32, probabilities.
        labels: K class names; `class 7` where no name is known.
    """

    classes: npt.NDArray[np.int64]
    scores: _Floats
    labels: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """What `labels` was called."""
        warnings.warn("Classification.names is called labels now", DeprecationWarning, stacklevel=2)
        return self.labels

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Rated]:
        for row in zip(self.classes.tolist(), self.labels, self.scores.tolist(), strict=True):
            yield Rated(*row)

    def __str__(self) -> str:
        return printable("\n".join(f"{100 * one.score:6.2f} %  {one.name}" for one in self))

    def to_dict(self) -> dict[str, Any]:
        """`{"top": [{"class", "name", "score"}]}`, ready for JSON."""
        return {
            "top": [{"class": one.class_id, "name": one.name, "score": one.score} for one in self]
        }


@public
class Classifier:
    """Says what pictures are of; safe to call from many threads, also while it reloads.

    A network with a memory sees the pictures of all calls as frames of one video, see `Detector`.

    Attributes:
        network: the network.
        class_names: of all classes, by number; empty if none are known.
        classes: how many classes it tells apart.
    """

    @renamed(names="class_names")
    def __init__(
        self,
        network: cfg.Network | cfg.Source,
        weights: WeightsSource,
        *,
        classes: int | None = None,
        class_names: Names = None,
        resize: Resize = "crop",
        batch_size: int = ServingOptions.batch_size,
        threads: int | None = ServingOptions.threads,
        bgr: bool = ServingOptions.bgr,
        max_pixels: int | None = ServingOptions.max_pixels,
        timeout: float | None = ServingOptions.timeout,
        engine: EngineName = ServingOptions.engine,
        precision: Precision = ServingOptions.precision,
    ) -> None:
        """Builds the graph and loads the file.

        Args:
            network: a `Network`, a stock name, or a cfg's path or text.
            weights: the `.weights` file, as `load_darknet_weights` takes it.
            classes: for another number of classes than the network has.
            class_names: a list, or a file with one a line.
            resize: how an image becomes the network's input: "crop" (the middle, as AlexeyAB's
                and hank-ai's `darknet classifier` do), "letter_box" (the whole image on a grey
                ground, as pjreddie's does) or "stretch" (the whole image, its proportions
                changed, as darknet.py does). It has to be that of training for the best accuracy.
            batch_size: pictures of a list that go through the network at once.
            threads: that this classifier computes with, apart from all others; None: the
                processors that the process may use.
            bgr: arrays hold blue first, as OpenCV reads pictures; files are what they are.
            max_pixels: a file of more is refused before it is decoded; None: none is.
            timeout: seconds that the server of weights at a URL may be silent, also in `reload`;
                None: any.
            engine: what computes: `tensorflow`, `openvino` or `onnxruntime`, of which the last
                two need no TensorFlow.
            precision: `bfloat16` is for `openvino`: faster on processors that have it, with some
                3 digits.

        Raises:
            WeightsMismatch: file and network do not belong together.
            UnsupportedSectionError: the network is a detector, or has sections this cannot
                express.
            YolotfError: there are more or fewer names than classes.
            ValueError: an argument out of range.
        """
        check_resize(resize)
        self._resize = resize
        options = ServingOptions(
            batch_size=batch_size,
            threads=threads,
            bgr=bgr,
            max_pixels=max_pixels,
            timeout=timeout,
            engine=engine,
            precision=precision,
        )
        self.network = networks.as_network(network, classes=classes)
        computed, self._tree, self.classes = classes_of(self.network)
        self.class_names = names_for(class_names, self.classes, self.network.source)
        self._served = ServedNetwork(self.network, weights, options, computed=computed)

    @property
    def names(self) -> tuple[str, ...]:
        """What `class_names` was called."""
        warnings.warn(
            "Classifier.names is called class_names now", DeprecationWarning, stacklevel=2
        )
        return self.class_names

    @property
    def stateful(self) -> bool:
        """Whether its answer for a picture depends on those before it."""
        return self._served.stateful

    def reset(self) -> None:
        """Forgets all pictures so far: the next is the first of another video."""
        self._served.reset()

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of what the network sees."""
        return self._served.size

    @property
    def reloads(self) -> int:
        """How many times the weights have been changed."""
        return self._served.reloads

    @property
    def weights(self) -> ServedWeights:
        """The file that serves now."""
        return self._served.active.about

    def __reduce__(self) -> tuple[Any, ...]:
        """By its arguments: the other process, or the copy, reads the file that serves now."""
        path = self._served.path_for_copies("Classifier")
        arguments = {"class_names": self.class_names or None, "resize": self._resize}
        arguments |= vars(self._served.options)
        return _rebuild, (type(self), self.network, path, arguments)

    def __repr__(self) -> str:
        height, width = self.size
        name = self.network.name or self.network.source
        classes = plural(self.classes, "class", "classes")
        return printable(f"<yolotf.Classifier {name}, {width}x{height}, {classes}>")

    # The type of an array does not say how many axes it has.
    @overload
    def __call__(self, images: npt.NDArray[Any], *, top: int = 5) -> Any: ...

    @overload
    def __call__(self, images: Picture, *, top: int = 5) -> Classification: ...

    @overload
    def __call__(self, images: Pictures, *, top: int = 5) -> list[Classification]: ...

    @renamed(pictures="images")
    def __call__(
        self, images: Picture | Pictures, *, top: int = 5
    ) -> Classification | list[Classification]:
        """Classifies one picture or each of a list or batch.

        Args:
            images: as `Detector` takes them.
            top: how many classes to answer, at most.

        Returns:
            A `Classification`, or a list of them.

        Raises:
            OSError: a picture cannot be read.
            OutOfMemoryError: there is no memory for it.
            EngineError: the engine refuses to run it.
        """
        if top < 1:
            raise ValueError(f"top={top} must be at least 1")
        batch, several = images_of(images)
        found = [self._best(row, top) for row in self.probabilities(batch)]
        return found if several else found[0]

    def probabilities(self, pictures: Sequence[Picture]) -> _Floats:
        """[pictures, classes] float32: of every class."""
        rows = self._served.answers(pictures, self._prepared, self._probabilities)
        return np.stack(rows) if rows else np.zeros((0, self.classes), np.float32)

    def reload(self, weights: WeightsSource) -> None:
        """Changes to another file of the same network while requests are served.

        Raises:
            WeightsMismatch: the file does not belong to the network; nothing has changed.
            OSError: the file cannot be read; nothing has changed.
        """
        self._served.reload(weights)

    def export(self, folder: StrPath, *, overwrite: bool = True) -> None:
        """Writes a SavedModel of standard operations only.

        Its signature `probabilities`, which is `serving_default` as well, takes `images` uint8
        [batch, height, width, channels], of any one size, prepares them as `__call__` does, and
        answers `probabilities` float32 [batch, classes]. Names, if there are any, are written to
        the asset `assets/classes.names`, and to `assets.extra/classes.names`. TensorFlow Serving
        runs it once before it answers (`assets.extra/tf_serving_warmup_requests`). What becomes
        of an older SavedModel is as of `Detector.export`.

        Args:
            folder: where to.
            overwrite: False refuses to replace an older SavedModel.

        Raises:
            OSError: the folder cannot be written, or holds a SavedModel that is not to be
                replaced; an older one is as it was.
            UnsupportedSectionError: the network has a memory.
        """
        saved_model.check(folder, overwrite=overwrite)
        check_forgetful(
            self.network, "a SavedModel has no video to keep it for; call the Classifier"
        )
        from yolotf.inference import classifier_function  # imports TensorFlow

        arrays = self._served.unblocked_weights()
        with saved_model.replacing(folder, overwrite=overwrite) as ready:
            classifier_function.write(
                self.network, arrays, ready, names=self.class_names or (), resize=self._resize
            )

    def _prepared(self, arrays: Sequence[Array]) -> _Floats:
        threads = self._served.options.threads or 1
        return prepare_all(arrays, self.network.input_shape, self._resize, threads=threads)

    def _probabilities(self, heads: list[Array], arrays: Sequence[Array]) -> _Floats:
        values = _flat(heads[0])
        for places in self._tree.branches() if self._tree else ():
            above = np.pad(values, [(0, 0), (0, 1)], constant_values=1)
            values = values * above[:, places[:-1]]
        return values

    def _best(self, row: _Floats, top: int) -> Classification:
        order = np.argsort(-row, kind="stable")[:top]
        names = self.class_names or [f"class {number}" for number in range(self.classes)]
        return Classification(order, row[order], tuple(names[number] for number in order))


def _rebuild(
    kind: type[Classifier], network: cfg.Network, weights: str, arguments: dict[str, Any]
) -> Classifier:
    return unpickled(lambda: kind(network, weights, **arguments), "Classifier", weights)


def _flat(values: _Floats) -> _Floats:
    """[pictures, numbers], channels first, as Darknet keeps them."""
    if values.ndim == 4:
        values = values.transpose(0, 3, 1, 2)
    return values.reshape(len(values), -1)
