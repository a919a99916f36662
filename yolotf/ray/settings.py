"""The application's settings, and the detector they describe."""

from dataclasses import fields
from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator

from yolotf.darknet import stock
from yolotf.darknet.detection_options import DetectionOptions, Resize
from yolotf.darknet.dialects import Dialect
from yolotf.darknet.graph_checks import check_stateless
from yolotf.files import sources
from yolotf.inference import Detector
from yolotf.runtime.options import EngineName, Precision, ServingOptions

MAX_PIXELS = 1 << 25
"""Maximum pixels of an image: fewer than for a `Detector`, since requests are concurrent."""


def _renamed_field(*names: str, **options: Any) -> Any:
    """Returns a pydantic field that also accepts its older names."""
    return Field(validation_alias=AliasChoices(*names), **options)


class Settings(BaseModel):
    """The `args` of the application. Names of version 0.1, such as `cfg` and `score`, also work.

    Attributes:
        network: a stock name, or the path of a cfg that every node can read.
        weights: the `.weights` file to start with.
        classes: number of classes; None: the network's own.
        dialect: the fork of Darknet that reads the cfg; see `parse_cfg`.
        class_names: a file with one class name a line; None: see `Detector`.
        score_threshold: lowest score of a detection.
        iou_threshold: the IoU above which boxes of one class suppress each other.
        max_boxes: maximum detections per image, best first.
        nms_kind: see `Detector`.
        agnostic: suppress overlapping boxes of different classes too.
        only: the classes to detect, see `Detector`.
        letter_box: overrides the cfg: whether resizing keeps the aspect ratio.
        resize: see `Detector`.
        engine: the inference engine, see `Detector`.
        precision: see `Detector`.
        cpus: CPU cores per replica, which is also the detector's number of threads.
        replicas: number of replicas.
        batch_size: maximum images per batch of the network.
        batch_wait_ms: how long the first image of a batch waits for others.
        max_ongoing: requests a replica accepts before others queue at the proxy.
        max_image_bytes: maximum size of a request's body.
        max_images: maximum images per request.
        max_pixels: larger images are not decoded.
        body_timeout_s: seconds within which the whole body must arrive.
        max_uploads: bodies that a replica reads concurrently; None: half of `max_ongoing`.
        weights_timeout_s: seconds without data after which a download of weights is given up.
    """

    # Errors appear in Ray's logs, and weights may be a URL with secrets.
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    network: str = _renamed_field("network", "cfg")
    weights: str
    classes: int | None = Field(None, ge=1)
    dialect: Dialect | None = None
    class_names: str | None = _renamed_field("class_names", "names", default=None)
    score_threshold: float = _renamed_field(
        "score_threshold", "score", default=DetectionOptions.score_threshold
    )
    iou_threshold: float = _renamed_field(
        "iou_threshold", "iou", default=DetectionOptions.iou_threshold
    )
    max_boxes: int = DetectionOptions.max_boxes
    nms_kind: str | None = DetectionOptions.nms_kind
    agnostic: bool = DetectionOptions.agnostic
    only: str | list[str | int] | None = None
    letter_box: bool | None = DetectionOptions.letter_box
    resize: Resize = DetectionOptions.resize
    engine: EngineName = ServingOptions.engine
    precision: Precision = ServingOptions.precision
    cpus: int = Field(1, ge=1)
    replicas: int = Field(1, ge=1)
    batch_size: int = ServingOptions.batch_size
    batch_wait_ms: float = Field(5.0, ge=0)
    max_ongoing: int = Field(64, ge=1)
    max_image_bytes: int = _renamed_field(
        "max_image_bytes", "max_picture_bytes", default=64 << 20, ge=1
    )
    max_images: int = _renamed_field("max_images", "max_pictures", default=64, ge=1)
    max_pixels: int = Field(MAX_PIXELS, ge=1)
    body_timeout_s: float = Field(30.0, gt=0)
    max_uploads: int | None = Field(None, ge=1)
    weights_timeout_s: float = Field(ServingOptions.timeout, gt=0)

    def __repr_args__(self) -> Any:
        """The fields, URLs without their secrets."""
        for name, value in super().__repr_args__():
            yield name, sources.redacted(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> "Settings":
        """Refuses at deployment what every replica would refuse."""
        self.detection_options()
        self.serving_options()
        return self

    def detection_options(self) -> DetectionOptions:
        """Returns the options that select detections."""
        options = {field.name: getattr(self, field.name) for field in fields(DetectionOptions)}
        return DetectionOptions(**options)

    def serving_options(self) -> ServingOptions:
        """Returns the options of reading images and of inference."""
        return ServingOptions(
            batch_size=self.batch_size,
            threads=self.cpus,
            engine=self.engine,
            precision=self.precision,
            max_pixels=self.max_pixels,
            timeout=self.weights_timeout_s,
        )

    @property
    def uploads(self) -> int:
        """Number of request bodies that a replica reads concurrently."""
        return self.max_uploads or max(1, self.max_ongoing // 2)


def detector_of(settings: Settings) -> Detector:
    """Builds the detector of a replica or an actor.

    Raises:
        UnsupportedSectionError: the network is recurrent.
        WeightsMismatch: the file does not match the network.
        OSError: a file cannot be read on this node.
    """
    network = stock.as_network(settings.network, dialect=settings.dialect)
    check_stateless(network, "Ray mixes the images of many videos; use a Detector for each video")
    return Detector(
        network,
        settings.weights,
        classes=settings.classes,
        class_names=settings.class_names,
        **vars(settings.detection_options()),
        **vars(settings.serving_options()),
    )
