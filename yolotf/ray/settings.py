"""What the application may be told, and the detector of it."""

from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator

from yolotf.darknet import stock
from yolotf.darknet.detection_options import DetectionOptions, Resize
from yolotf.darknet.graph_checks import check_forgetful
from yolotf.inference import Detector
from yolotf.runtime.options import EngineName, Precision, ServingOptions

MAX_PIXELS = 1 << 25
"""Pixels of a picture: fewer than a `Detector` takes, since strangers send many at a time."""


def _named(*names: str, **options: Any) -> Any:
    """A field that is also taken by the names it had before."""
    return Field(validation_alias=AliasChoices(*names), **options)


class Settings(BaseModel):
    """The `args` of the application; `cfg`, `names`, `score` and `iou` are older names of some.

    Attributes:
        network: a stock name, or the path of a cfg that every node can read.
        weights: the `.weights` file to start with.
        class_names: a file with one a line; None: see `Detector`.
        score_threshold: lowest score of a detection.
        iou_threshold: boxes of one class that overlap more exclude each other.
        max_boxes: detections per picture, the best ones.
        letter_box: whether pictures keep their proportions, in place of the cfg's.
        resize: how they are brought to the network's size, `darknet` or `opencv`.
        engine: what computes, see `Detector`.
        precision: see `Detector`.
        cpus: processors of a replica, and so the threads of its detector.
        replicas: how many to run.
        batch_size: pictures that go through the network at once.
        batch_wait_ms: how long the first picture of a batch waits for others.
        max_ongoing: requests a replica takes before others wait at the proxy.
        max_picture_bytes: a request's body may not be larger.
        max_pictures: that a request may hold.
        max_pixels: of a picture; one of more is not decoded.
        body_timeout_s: seconds within which the whole body of a request has to be there.
        max_uploads: bodies that a replica reads at a time; None: half of `max_ongoing`.
        weights_timeout_s: seconds that the server of weights at a URL may be silent.
    """

    model_config = ConfigDict(extra="forbid")

    network: str = _named("network", "cfg")
    weights: str
    class_names: str | None = _named("class_names", "names", default=None)
    score_threshold: float = _named(
        "score_threshold", "score", default=DetectionOptions.score_threshold
    )
    iou_threshold: float = _named("iou_threshold", "iou", default=DetectionOptions.iou_threshold)
    max_boxes: int = DetectionOptions.max_boxes
    letter_box: bool | None = DetectionOptions.letter_box
    resize: Resize = DetectionOptions.resize
    engine: EngineName = ServingOptions.engine
    precision: Precision = ServingOptions.precision
    cpus: int = Field(1, ge=1)
    replicas: int = Field(1, ge=1)
    batch_size: int = ServingOptions.batch_size
    batch_wait_ms: float = Field(5.0, ge=0)
    max_ongoing: int = Field(64, ge=1)
    max_picture_bytes: int = Field(64 << 20, ge=1)
    max_pictures: int = Field(64, ge=1)
    max_pixels: int = Field(MAX_PIXELS, ge=1)
    body_timeout_s: float = Field(30.0, gt=0)
    max_uploads: int | None = Field(None, ge=1)
    weights_timeout_s: float = Field(ServingOptions.timeout, gt=0)

    @model_validator(mode="after")
    def _check(self) -> "Settings":
        """Refuses here, where it is deployed, what every replica would refuse."""
        self.wanted()
        self.serving()
        return self

    def wanted(self) -> DetectionOptions:
        """Which detections."""
        return DetectionOptions(
            score_threshold=self.score_threshold,
            iou_threshold=self.iou_threshold,
            max_boxes=self.max_boxes,
            letter_box=self.letter_box,
            resize=self.resize,
        )

    def serving(self) -> ServingOptions:
        """How images are read and computed."""
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
        """Bodies that a replica reads at a time."""
        return self.max_uploads or max(1, self.max_ongoing // 2)


def detector_of(settings: Settings) -> Detector:
    """The detector of a replica or an actor.

    Raises:
        UnsupportedSectionError: the network has a memory.
        WeightsMismatch: file and network do not belong together.
        OSError: a file cannot be read on this node.
    """
    network = stock.as_network(settings.network)
    check_forgetful(
        network, "Ray brings pictures of many videos in any order; use a Detector for each video"
    )
    return Detector(
        network,
        settings.weights,
        class_names=settings.class_names,
        score_threshold=settings.score_threshold,
        iou_threshold=settings.iou_threshold,
        max_boxes=settings.max_boxes,
        letter_box=settings.letter_box,
        resize=settings.resize,
        batch_size=settings.batch_size,
        threads=settings.cpus,
        engine=settings.engine,
        precision=settings.precision,
        max_pixels=settings.max_pixels,
        timeout=settings.weights_timeout_s,
    )
