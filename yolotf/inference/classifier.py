"""`Classifier`: image classification without TensorFlow's Python."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from yolotf import argument_numbers
from yolotf._public import public, renamed, warn_caller
from yolotf.darknet import cfg, stock
from yolotf.darknet.class_names import Names, names_for
from yolotf.darknet.dialects import Dialect
from yolotf.darknet.graph_checks import check_stateless
from yolotf.files import read_files
from yolotf.files.json import shortest
from yolotf.files.paths import StrPath
from yolotf.graphs import saved_model
from yolotf.images.read import ImageLike, Images, ImageT, images_of
from yolotf.inference.classifier_head import TOP, head_of
from yolotf.inference.classifier_images import Resize, check_resize, prepare, prepare_all
from yolotf.inference.served_network import Array, ServedNetwork, ServedWeights, rebuilt
from yolotf.runtime.options import EngineName, Precision, ServingOptions
from yolotf.text import class_label, plural, printable
from yolotf.weights.file import WeightsSource

__all__ = ["Classification", "Classifier", "RatedClass", "prepare"]

_Floats = npt.NDArray[np.float32]


class RatedClass(NamedTuple):
    """A class with its score."""

    class_id: int
    name: str
    score: float


@public
@dataclass(frozen=True, eq=False)
class Classification:
    """The most likely classes of an image, best first.

    Attributes:
        classes: [K] int64, class numbers from 0.
        scores: [K] float32, probabilities.
        labels: K class names; `class 7` if the name is unknown.
    """

    classes: npt.NDArray[np.int64]
    scores: _Floats
    labels: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Deprecated name of `labels`."""
        warn_caller("Classification.names is called labels now", DeprecationWarning)
        return self.labels

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[RatedClass]:
        for row in zip(self.classes.tolist(), self.labels, self.scores.tolist(), strict=True):
            yield RatedClass(*row)

    def __str__(self) -> str:
        return printable("\n".join(f"{100 * rated.score:6.2f} %  {rated.name}" for rated in self))

    def to_dict(self) -> dict[str, Any]:
        """Returns `{"top": [{"class", "name", "score"}]}`, ready for JSON.

        Scores have only the digits that float32 has: 0.7482339, not 0.7482339143753052.
        """
        return {
            "top": [
                {"class": number, "name": name, "score": score}
                for number, name, score in zip(
                    self.classes.tolist(), self.labels, shortest(self.scores), strict=True
                )
            ]
        }


@public
class Classifier:
    """Classifies images; thread-safe, also during `reload`.

    A recurrent network treats the images of all calls as frames of one video, see `Detector`.

    Attributes:
        network: the network.
        class_names: the class names, indexed by class number; empty if unknown.
        classes: number of classes.
    """

    @renamed(names="class_names")
    def __init__(
        self,
        network: cfg.Network | cfg.Source,
        weights: WeightsSource,
        *,
        classes: int | None = None,
        dialect: Dialect | None = None,
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
            classes: number of classes; None: the network's own.
            dialect: the fork of Darknet that reads the cfg, see `parse_cfg`; for a cfg's path or
                text only.
            class_names: a list, or a file with one name per line.
            resize: how an image becomes the network's input: "crop" (center crop, as `darknet
                classifier` of AlexeyAB; also called "darknet"), "opencv" (the same crop, scaled
                as `cv2.resize` does), "letter_box" (the whole image, padded with gray, as
                pjreddie's) or "stretch" (the whole image, proportions not kept, as darknet.py).
                Use the one the network was trained with.
            batch_size: how many images of a list are computed at once.
            threads: size of this classifier's own thread pool; None: the number of processors
                available to the process.
            bgr: arrays are BGR, as OpenCV reads images; image files are unaffected.
            max_pixels: larger image files are rejected before they are decoded; None: no limit.
            timeout: seconds without data after which a download of weights from a URL fails, also
                in `reload`; None: no limit.
            engine: the inference engine: `tensorflow`, `openvino` or `onnxruntime`; the last two
                need no TensorFlow.
            precision: `float32`, or `bfloat16` with `openvino`: faster on processors that support
                it, accurate to about 3 digits.

        Raises:
            WeightsMismatch: the file does not match the network.
            UnsupportedSectionError: the network is a detector, or has sections that are not
                supported.
            YolotfError: the number of names is not the number of classes.
            ValueError: an argument is out of range.
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
        with read_files.remembered() as self._files_read:
            self.network = stock.as_network(network, classes=classes, dialect=dialect)
            computed, self._tree, self.classes = head_of(self.network)
            self.class_names = names_for(class_names, self.classes, self.network.source)
            self._served = ServedNetwork(self.network, weights, options, computed=computed)

    @property
    def names(self) -> tuple[str, ...]:
        """Deprecated name of `class_names`."""
        warn_caller("Classifier.names is called class_names now", DeprecationWarning)
        return self.class_names

    @property
    def stateful(self) -> bool:
        """Whether the result for an image depends on earlier images (recurrent networks)."""
        return self._served.stateful

    def reset(self) -> None:
        """Resets the recurrent state: the next image starts a new video."""
        self._served.reset()

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the network's input."""
        return self._served.size

    @property
    def reloads(self) -> int:
        """Number of reloads so far."""
        return self._served.reloads

    @property
    def weights(self) -> ServedWeights:
        """The weights file in use."""
        return self._served.active.source

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the arguments; the copy reads the weights file again."""
        path = self._served.path_for_copies("Classifier")
        arguments = {"class_names": self.class_names or None, "resize": self._resize}
        arguments |= vars(self._served.options)
        return _rebuild, (type(self), self.network, path, arguments)

    def __repr__(self) -> str:
        height, width = self.size
        name = self.network.name or self.network.source
        classes = plural(self.classes, "class", "classes")
        return printable(f"<yolotf.Classifier {name}, {width}x{height}, {classes}>")

    # As in `Detector.__call__`.
    @overload
    def __call__(self, images: npt.NDArray[Any], *, top: int = TOP) -> Any: ...

    @overload
    def __call__(self, images: ImageLike, *, top: int = TOP) -> Classification: ...

    @overload
    def __call__(self, images: Images[ImageLike], *, top: int = TOP) -> list[Classification]: ...

    @overload
    def __call__(self, images: Images[ImageT], *, top: int = TOP) -> list[Classification]: ...

    @renamed(pictures="images")
    def __call__(
        self, images: ImageLike | Images[ImageT], *, top: int = TOP
    ) -> Classification | list[Classification]:
        """Classifies one image, or each image of a list or batch.

        Args:
            images: as `Detector` takes them.
            top: largest number of classes to return.

        Returns:
            A `Classification`; a list of them for several images.

        Raises:
            OSError: an image cannot be read.
            OutOfMemoryError: the images need more memory than the process may use.
            EngineError: inference fails.
        """
        top = argument_numbers.count("top", top)
        batch, several = images_of(images)
        results = [self._best(row, top) for row in self.probabilities(batch)]
        return results if several else results[0]

    @renamed(pictures="images")
    def probabilities(self, images: Sequence[ImageLike]) -> _Floats:
        """Returns the probability of every class, [images, classes] float32."""
        rows = self._served.run(images, self._prepared, self._probabilities)
        return np.stack(rows) if rows else np.zeros((0, self.classes), np.float32)

    def reload(self, weights: WeightsSource) -> None:
        """Switches to another weights file of the same network; see `Detector.reload`.

        Raises:
            WeightsMismatch: the file does not match the network; the old weights stay in use.
            OSError: the file cannot be read; the old weights stay in use.
        """
        self._served.reload(weights)

    def export(self, folder: StrPath, *, overwrite: bool = True) -> None:
        """Writes a SavedModel of standard operations; imports TensorFlow.

        Its signature `probabilities`, also available as `serving_default`, takes `images` uint8
        [batch, height, width, channels], all of one size, prepares them as `__call__` does, and
        returns `probabilities` float32 [batch, classes]. Class names are written to the asset
        `assets/classes.names` and to `assets.extra/classes.names`. TensorFlow Serving runs both
        names once before it reports the model as available
        (`assets.extra/tf_serving_warmup_requests`). An older SavedModel is replaced as in
        `Detector.export`.

        Args:
            folder: where to write it.
            overwrite: False: fail if the folder holds a SavedModel.

        Raises:
            OSError: the folder cannot be written; or holds a SavedModel, and `overwrite` is False;
                or holds the weights, cfg or names in place of a part of the SavedModel. An existing
                SavedModel is unchanged.
            UnsupportedSectionError: the network is recurrent.
        """
        inputs = [self.weights.path]
        with read_files.remembered(self._files_read):
            saved_model.check(folder, overwrite=overwrite, inputs=inputs)
            check_stateless(self.network, "an exported SavedModel is stateless; use the Classifier")
            from yolotf.inference import classifier_function  # imports TensorFlow

            arrays = self._served.hwio_weights()
            with saved_model.replacing(folder, overwrite=overwrite) as new_folder:
                classifier_function.write(
                    self.network,
                    arrays,
                    new_folder,
                    names=self.class_names or (),
                    resize=self._resize,
                )

    def _prepared(self, arrays: Sequence[Array]) -> _Floats:
        threads = self._served.options.threads or 1
        return prepare_all(arrays, self.network.input_shape, self._resize, threads=threads)

    def _probabilities(self, heads: list[Array], arrays: Sequence[Array]) -> _Floats:
        values = _flattened(heads[0])
        for ancestors in self._tree.branches() if self._tree else ():
            # The root has no probability: it refers to the padding, which is 1.
            padded = np.pad(values, [(0, 0), (0, 1)], constant_values=1)
            values = values * padded[:, ancestors[:-1]]
        return values

    def _best(self, row: _Floats, top: int) -> Classification:
        order = np.argsort(-row, kind="stable")[:top]
        names = tuple(class_label(number, self.class_names or ()) for number in order.tolist())
        return Classification(order, row[order], names)


def _rebuild(
    kind: type[Classifier], network: cfg.Network, weights: str, arguments: dict[str, Any]
) -> Classifier:
    return rebuilt(kind, network, weights, arguments)


def _flattened(values: _Floats) -> _Floats:
    """Returns the outputs as [images, values], flattened channels first as in Darknet."""
    if values.ndim == 4:
        values = values.transpose(0, 3, 1, 2)
    return values.reshape(len(values), -1)
