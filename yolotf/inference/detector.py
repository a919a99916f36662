"""`Detector`: object detection without TensorFlow's Python."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from yolotf._public import public, renamed, warn_caller
from yolotf.darknet import cfg, stock
from yolotf.darknet.class_names import Names, class_names_for
from yolotf.darknet.decoding import check_heads
from yolotf.darknet.detection_options import DetectionOptions, Only, Resize
from yolotf.darknet.dialects import Dialect
from yolotf.darknet.graph_checks import check_stateless
from yolotf.files import read_files
from yolotf.files.paths import StrPath
from yolotf.graphs import saved_model
from yolotf.images.detections import Detections
from yolotf.images.read import ImageLike, Images, ImageT, images_of
from yolotf.inference.served_network import ServedNetwork, ServedWeights, rebuilt
from yolotf.runtime.decoding import Decoder
from yolotf.runtime.options import EngineName, Precision, ServingOptions
from yolotf.runtime.resize import fit
from yolotf.text import printable
from yolotf.weights import own_files
from yolotf.weights.file import WeightsSource
from yolotf.weights.same_size import stock_warnings

Array = npt.NDArray[Any]


@public
class Detector:
    """Detects objects in images; thread-safe, also during `reload`.

    A recurrent network (`[crnn]`, `[conv_lstm]`, ...) treats the images of all calls as consecutive
    frames of one video: use a separate detector for each video that runs at the same time, and call
    `reset` before the next video.

    Inference runs TensorFlow's kernels without TensorFlow's Python. TensorFlow itself is imported
    only if it would use a GPU.

    Attributes:
        network: the network.
        class_names: the class names, indexed by class number; empty if unknown.
    """

    @renamed(names="class_names", score="score_threshold", iou="iou_threshold")
    def __init__(
        self,
        network: cfg.Network | cfg.Source,
        weights: WeightsSource,
        *,
        classes: int | None = None,
        dialect: Dialect | None = None,
        class_names: Names = None,
        score_threshold: float = DetectionOptions.score_threshold,
        iou_threshold: float = DetectionOptions.iou_threshold,
        max_boxes: int = DetectionOptions.max_boxes,
        nms_kind: str | None = DetectionOptions.nms_kind,
        agnostic: bool = DetectionOptions.agnostic,
        only: Only = DetectionOptions.only,
        batch_size: int = ServingOptions.batch_size,
        threads: int | None = ServingOptions.threads,
        letter_box: bool | None = DetectionOptions.letter_box,
        bgr: bool = ServingOptions.bgr,
        max_pixels: int | None = ServingOptions.max_pixels,
        resize: Resize = DetectionOptions.resize,
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
            class_names: a list, or a file with one name per line. None: the names of the class tree
                if there is one, COCO's for a stock network with its 80 classes, else no names.
            score_threshold: lowest score of a detection, in [0, 1).
            iou_threshold: of boxes of one class that overlap more (IoU), only the best is kept; in
                [0, 1).
            max_boxes: largest number of detections per image; the best are kept.
            nms_kind: `default`, `greedynms` or `diounms`; None: as in the cfg.
            agnostic: suppress overlapping boxes of different classes too.
            only: the classes to detect, by name or number from 0, as a list or a comma-separated
                string; boxes of other classes suppress nothing. None: all classes.
            batch_size: how many images of a list are computed at once.
            threads: size of this detector's own thread pool; None: the number of processors
                available to the process.
            letter_box: whether images keep their proportions; None: as in the cfg.
            bgr: arrays are BGR, as OpenCV reads images; image files are unaffected.
            max_pixels: larger image files are rejected before they are decoded; None: no limit.
            resize: how images are resized to the network's size: `darknet` as `darknet detector
                test` does, `opencv` as `cv2.resize` does, which both forks use in training and
                hank-ai's library and tools in detection, or `opencv_exact` as with
                INTER_LINEAR_EXACT, which hank-ai's `darknet detector map` uses.
            timeout: seconds without data after which a download of weights from a URL fails, also
                in `reload`; None: no limit.
            engine: the inference engine: `tensorflow`, `openvino` or `onnxruntime`; the last two
                need no TensorFlow.
            precision: `float32`, or `bfloat16` with `openvino`: faster on processors that support
                it, accurate to about 3 digits.

        Raises:
            WeightsMismatch: the file does not match the network; has a `diagnosis`.
            CfgError: the cfg is invalid, or there is no such network.
            UnsupportedSectionError: the network has sections or heads that are not supported.
            ValueError: an option is out of range.
            YolotfError: the number of names is not the number of classes, `only` names no class, or
                the class tree is invalid.
            OSError: a file cannot be read, or the class tree is missing; see `with_tree`.
            OutOfMemoryError: one image needs more memory than the process may use.
            ImportError: the engine is not installed.
            EngineError: the engine rejects the network.
        """
        self._detection_options = DetectionOptions(
            score_threshold=score_threshold,
            iou_threshold=iou_threshold,
            max_boxes=max_boxes,
            nms_kind=nms_kind,
            agnostic=agnostic,
            only=only,
            letter_box=letter_box,
            resize=resize,
        )
        serving_options = ServingOptions(
            batch_size=batch_size,
            threads=threads,
            bgr=bgr,
            max_pixels=max_pixels,
            timeout=timeout,
            engine=engine,
            precision=precision,
        )
        with read_files.remembered() as self._files_read:
            self.network = self._detection_options.applied_to(
                stock.as_network(network, classes=classes, dialect=dialect)
            )
            stock_doubts = (
                ()
                if own_files.was_written_for(weights, self.network)
                else stock_warnings(self.network)
            )
            for text in (*self.network.warnings, *stock_doubts):
                warn_caller(text)
            self.class_names = class_names_for(self.network, class_names)
            check_heads(self.network)
            self._unwanted = self._detection_options.unwanted(self.network, self.class_names)
            self._decoder = Decoder(self.network, self._detection_options.suppression(self.network))
            self._served = ServedNetwork(self.network, weights, serving_options)

    @property
    def names(self) -> tuple[str, ...]:
        """Deprecated name of `class_names`."""
        warn_caller("Detector.names is called class_names now", DeprecationWarning)
        return self.class_names

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) that images are resized to."""
        return self._served.size

    @property
    def stateful(self) -> bool:
        """Whether detections depend on earlier images (recurrent networks)."""
        return self._served.stateful

    def reset(self) -> None:
        """Resets the recurrent state: the next image starts a new video."""
        self._served.reset()

    @property
    def reloads(self) -> int:
        """Number of reloads so far."""
        return self._served.reloads

    @property
    def weights(self) -> ServedWeights:
        """The weights file in use."""
        return self._served.active.source

    def __repr__(self) -> str:
        height, width = self.size
        classes = self.network.classes
        return printable(
            f"<yolotf.Detector {self.network.name or self.network.source}, {width}x{height}, "
            f"{'heads of several' if classes is None else classes} "
            f"class{'es' * (classes != 1)}, {self.weights.path}>"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the arguments; the copy reads the weights file again."""
        path = self._served.path_for_copies("Detector")
        return _rebuild, (type(self), self.network, path, self._arguments())

    def _arguments(self) -> dict[str, Any]:
        """Returns the keyword arguments that construct an equal detector."""
        options = self._detection_options
        return {
            "class_names": self.class_names or None,
            "score_threshold": options.score_threshold,
            "iou_threshold": options.iou_threshold,
            "max_boxes": options.max_boxes,
            "nms_kind": options.nms_kind,
            "agnostic": options.agnostic,
            "only": options.only,
            "letter_box": options.letter_box,
            "resize": options.resize,
            **vars(self._served.options),
        }

    # An array's type does not tell its number of axes. The third signature is for lists that mix
    # kinds of images, the fourth for lists of one kind, which a type checker keeps apart.
    @overload
    def __call__(self, images: Array) -> Any: ...

    @overload
    def __call__(self, images: ImageLike) -> Detections: ...

    @overload
    def __call__(self, images: Images[ImageLike]) -> list[Detections]: ...

    @overload
    def __call__(self, images: Images[ImageT]) -> list[Detections]: ...

    @renamed(pictures="images")
    def __call__(self, images: ImageLike | Images[ImageT]) -> Detections | list[Detections]:
        """Detects objects in one image, or in each image of a list or batch.

        Args:
            images: a path, a Pillow image, encoded bytes, an open file, or an array or tensor
                [height, width, channels], RGB (or grayscale without the last axis), uint8 or float
                in 0..1; a list, a tuple or a one-dimensional array of these, of any sizes; or an
                array or tensor [batch, height, width, channels].

        Returns:
            `Detections` in pixels of the image; a list of them for several images.

        Raises:
            OSError: an image cannot be read.
            OutOfMemoryError: the images need more memory than the process may use.
            EngineError: inference fails.
            ForkedProcessError: the process was forked after a detector had been created.
        """
        batch, several = images_of(images)
        detections = self._served.run(batch, self._fitted, self._decoded)
        return detections if several else detections[0]

    def reload(self, weights: WeightsSource) -> None:
        """Switches to another weights file of the same network while requests are served.

        The file is verified and loaded into a second set of weights, which then replaces the first
        atomically. Requests in progress finish with the old weights, which are freed after the last
        of them. The recurrent state is reset.

        Raises:
            WeightsMismatch: the file does not match the network; the old weights stay in use.
            OSError: the file cannot be read; the old weights stay in use.
        """
        self._served.reload(weights)

    def export(self, folder: StrPath, *, overwrite: bool = True) -> None:
        """Writes a SavedModel of standard operations; imports TensorFlow.

        Both signatures return `boxes` [batch, max_boxes, 4] (left, top, right, bottom in pixels),
        `scores` and `classes` [batch, max_boxes] and `counts` [batch]:

        * `serving_default`: `images` uint8 [batch, height, width, channels], all of one size;
        * `encoded`: `images` string [batch], JPEG or PNG files, for networks with 1 or 3 channels.
          Unlike `__call__` it ignores EXIF orientation. It also returns `readable` bool [batch]: a
          file that cannot be decoded, or has more than `max_pixels` pixels, has no detections and
          does not affect the others.

        Class names are written to the asset `assets/classes.names` and to
        `assets.extra/classes.names`. TensorFlow Serving runs both signatures once before it reports
        the model as available (`assets.extra/tf_serving_warmup_requests`). A complete new
        SavedModel replaces an older one atomically; unrelated files in the folder are kept.

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
            check_stateless(self.network, "an exported SavedModel is stateless; use the Detector")
            from yolotf.inference import export  # imports TensorFlow
            from yolotf.inference.detector_function import InferenceFunction  # imports TensorFlow

            function = InferenceFunction(
                self.network, self._detection_options, class_names=self.class_names
            )
            weights = self._served.hwio_weights()
            with saved_model.replacing(folder, overwrite=overwrite) as new_folder:
                export.write(
                    function,
                    weights,
                    new_folder,
                    names=self.class_names or (),
                    max_pixels=self._served.options.max_pixels,
                )

    def _fitted(self, arrays: Sequence[Array]) -> npt.NDArray[np.float32]:
        return fit(
            arrays,
            self.network.input_shape,
            letter_box=self.network.letter_box,
            threads=self._served.threads,
            resize=self._detection_options.resize,
        )

    def _decoded(self, heads: list[Array], arrays: Sequence[Array]) -> Iterable[Detections]:
        decoded = self._decoder(
            heads,
            self.size,
            [array.shape[:2] for array in arrays],
            score_threshold=self._detection_options.score_threshold,
            iou_threshold=self._detection_options.iou_threshold,
            max_boxes=self._detection_options.max_boxes,
            agnostic=self._detection_options.agnostic,
            unwanted=self._unwanted,
            threads=self._served.threads,
        )
        return [
            Detections.of(image.boxes, image.scores, image.classes, self.class_names)
            for image in decoded
        ]


def _rebuild(
    kind: type[Detector], network: cfg.Network, weights: str, arguments: dict[str, Any]
) -> Detector:
    return rebuilt(kind, network, weights, arguments)
