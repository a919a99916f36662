"""`Detector`: network and file -> what is in a picture. No TensorFlow Python is imported."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from yolotf._public import public, renamed
from yolotf.darknet import cfg
from yolotf.darknet import stock as networks
from yolotf.darknet.class_names import Names, class_names_for
from yolotf.darknet.decoding import check_heads
from yolotf.darknet.detection_options import DetectionOptions, Only, Resize
from yolotf.darknet.graph_checks import check_forgetful
from yolotf.files.sources import StrPath
from yolotf.graphs import saved_model
from yolotf.images.detections import Detections
from yolotf.images.read import Picture, Pictures, images_of
from yolotf.inference.served_network import ServedNetwork, ServedWeights, unpickled
from yolotf.runtime.decoding import Decoder
from yolotf.runtime.options import EngineName, Precision, ServingOptions
from yolotf.runtime.resize import fit
from yolotf.text import printable
from yolotf.weights import own_files
from yolotf.weights.catalog import stock_warnings
from yolotf.weights.file import WeightsSource

Array = npt.NDArray[Any]


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
        class_names: of all classes, by number; empty if none are known.
    """

    @renamed(names="class_names", score="score_threshold", iou="iou_threshold")
    def __init__(
        self,
        network: cfg.Network | cfg.Source,
        weights: WeightsSource,
        *,
        classes: int | None = None,
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
            classes: for another number of classes than the network has.
            class_names: a list, or a file with one a line. None: the tree's names of a class tree,
                COCO's for a stock network of its 80 classes, otherwise none.
            score_threshold: lowest score of a detection.
            iou_threshold: boxes of one class that overlap more exclude each other.
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
            resize: how pictures are brought to the network's size: `darknet` as `darknet detector
                test` does, or `opencv` as `cv2.resize` does, with which both Darknets train and
                hank-ai's library and tools detect.
            timeout: seconds that the server of weights at a URL may be silent, also in `reload`;
                None: any.
            engine: what computes: `tensorflow`, `openvino` or `onnxruntime`, of which the last
                two need no TensorFlow.
            precision: `bfloat16` is for `openvino`: faster on processors that have it, with some
                3 digits.

        Raises:
            WeightsMismatch: file and network do not belong together; with its `diagnosis`.
            UnsupportedSectionError: the network has sections or heads this cannot express.
            YolotfError: there are more or fewer names than classes, `only` names no class, or the
                class tree is none.
            OSError: a file cannot be read, or the class tree is not there; see `with_tree`.
            OutOfMemoryError: one picture needs more memory than the process may use.
            ImportError: the engine is not installed.
            EngineError: the engine refuses the network.
        """
        self._wanted = DetectionOptions(
            score_threshold=score_threshold,
            iou_threshold=iou_threshold,
            max_boxes=max_boxes,
            nms_kind=nms_kind,
            agnostic=agnostic,
            only=only,
            letter_box=letter_box,
            resize=resize,
        )
        options = ServingOptions(
            batch_size=batch_size,
            threads=threads,
            bgr=bgr,
            max_pixels=max_pixels,
            timeout=timeout,
            engine=engine,
            precision=precision,
        )
        self.network = self._wanted.applied_to(networks.as_network(network, classes=classes))
        doubts = () if own_files.is_of(weights, self.network) else stock_warnings(self.network)
        for text in (*self.network.warnings, *doubts):
            warnings.warn(text, stacklevel=3)
        self.class_names = class_names_for(self.network, class_names)
        check_heads(self.network)
        self._unwanted = self._wanted.unwanted(self.network, self.class_names)
        self._decoder = Decoder(self.network, self._wanted.suppression(self.network))
        self._served = ServedNetwork(self.network, weights, options)

    @property
    def names(self) -> tuple[str, ...]:
        """What `class_names` was called."""
        warnings.warn("Detector.names is called class_names now", DeprecationWarning, stacklevel=2)
        return self.class_names

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) that pictures are brought to."""
        return self._served.size

    @property
    def stateful(self) -> bool:
        """Whether what it finds in a picture depends on those before it."""
        return self._served.stateful

    def reset(self) -> None:
        """Forgets all pictures so far: the next is the first of another video."""
        self._served.reset()

    @property
    def reloads(self) -> int:
        """How many times the weights have been changed."""
        return self._served.reloads

    @property
    def weights(self) -> ServedWeights:
        """The file that serves now."""
        return self._served.active.about

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
        path = self._served.path_for_copies("Detector")
        return _rebuild, (type(self), self.network, path, self._arguments())

    def _arguments(self) -> dict[str, Any]:
        """The keywords that make another like it."""
        wanted, options = self._wanted, self._served.options
        return {
            "class_names": self.class_names or None,
            "score_threshold": wanted.score_threshold,
            "iou_threshold": wanted.iou_threshold,
            "max_boxes": wanted.max_boxes,
            "nms_kind": wanted.nms_kind,
            "agnostic": wanted.agnostic,
            "only": wanted.only,
            "letter_box": wanted.letter_box,
            "resize": wanted.resize,
            **vars(options),
        }

    # The type of an array does not say how many axes it has.
    @overload
    def __call__(self, images: Array) -> Any: ...

    @overload
    def __call__(self, images: Picture) -> Detections: ...

    @overload
    def __call__(self, images: Pictures) -> list[Detections]: ...

    @renamed(pictures="images")
    def __call__(self, images: Picture | Pictures) -> Detections | list[Detections]:
        """Detects in one picture or in each of a list or batch.

        Args:
            images: a path, a Pillow image, encoded bytes, an open file, or an array or tensor
                [height, width, channels] RGB (grey ones may lack the last axis), uint8 or float
                in 0..1; or several of these, of any sizes, in a list or tuple; or an array or
                tensor [batch, height, width, channels].

        Returns:
            `Detections` in pixels of the picture; of several pictures, a list of them.

        Raises:
            OSError: a picture cannot be read.
            OutOfMemoryError: there is no memory for it.
            EngineError: the engine refuses to run it.
            ForkedProcessError: the process was forked after a detector had been made.
        """
        batch, several = images_of(images)
        found = self._detect(batch)
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
        self._served.reload(weights)

    def export(self, folder: StrPath, *, overwrite: bool = True) -> None:
        """Writes a SavedModel of standard operations only; imports TensorFlow for it.

        Signatures, both answering `boxes` [batch, max_boxes, 4] (left, top, right, bottom in
        pixels), `scores` and `classes` [batch, max_boxes] and `counts` [batch]:

        * `serving_default`: `images` uint8 [batch, height, width, channels], of any one size;
        * `encoded`: `images` string [batch], JPEG or PNG files, for networks of 1 or 3 channels.
          Unlike `__call__` it does not turn photographs upright. It answers `readable` bool
          [batch] as well: a file that cannot be decoded, or has more than `max_pixels` pixels, has
          no detections, and the others theirs.

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

        function = InferenceFunction(self.network, self._wanted, class_names=self.class_names)
        weights = self._served.unblocked_weights()
        with saved_model.replacing(folder, overwrite=overwrite) as ready:
            export.write(
                function,
                weights,
                ready,
                names=self.class_names or (),
                max_pixels=self._served.options.max_pixels,
            )

    def _detect(self, pictures: Sequence[Picture]) -> list[Detections]:
        return self._served.answers(pictures, self._fitted, self._found)

    def _fitted(self, arrays: Sequence[Array]) -> npt.NDArray[np.float32]:
        return fit(
            arrays,
            self.network.input_shape,
            letter_box=self.network.letter_box,
            threads=self._served.threads,
            resize=self._wanted.resize,
        )

    def _found(self, heads: list[Array], arrays: Sequence[Array]) -> Iterable[Detections]:
        found = self._decoder(
            heads,
            self.size,
            [array.shape[:2] for array in arrays],
            score=self._wanted.score_threshold,
            iou=self._wanted.iou_threshold,
            max_boxes=self._wanted.max_boxes,
            agnostic=self._wanted.agnostic,
            unwanted=self._unwanted,
            threads=self._served.threads,
        )
        return [
            Detections.of(image.boxes, image.scores, image.classes, self.class_names)
            for image in found
        ]


def _rebuild(
    kind: type[Detector], network: cfg.Network, weights: str, arguments: dict[str, Any]
) -> Detector:
    return unpickled(lambda: kind(network, weights, **arguments), "Detector", weights)
