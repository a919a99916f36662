"""The public names and where they are; `__init__.py` reads this when one is asked for."""

from .darknet.cfg import Network as Network
from .darknet.cfg import parse_cfg as parse_cfg
from .darknet.class_names import read_names as read_names
from .darknet.stock import network as network
from .diagnosis.result import Diagnosis as Diagnosis
from .diagnosis.result import Inspection as Inspection
from .diagnosis.result import inspect as inspect
from .errors import CfgError as CfgError
from .errors import ContentError as ContentError
from .errors import FileChangedError as FileChangedError
from .errors import ForkedProcessError as ForkedProcessError
from .errors import HeaderError as HeaderError
from .errors import KerasBackendError as KerasBackendError
from .errors import MissingPackageError as MissingPackageError
from .errors import ModelMismatchError as ModelMismatchError
from .errors import OutOfMemoryError as OutOfMemoryError
from .errors import PlanError as PlanError
from .errors import SizeMismatchError as SizeMismatchError
from .errors import TensorFlowError as TensorFlowError
from .errors import TensorFlowVersionError as TensorFlowVersionError
from .errors import UnsupportedSectionError as UnsupportedSectionError
from .errors import WeightsMismatch as WeightsMismatch
from .errors import YolotfError as YolotfError
from .evaluation import DataSet as DataSet
from .evaluation import Score as Score
from .evaluation import evaluate as evaluate
from .formats.convert import Conversion as Conversion
from .formats.convert import convert as convert
from .graphs.decode import decode as decode
from .graphs.yolo_loss import YoloLoss as YoloLoss
from .graphs.yolo_loss import yolo_losses as yolo_losses
from .images.detections import Detections as Detections
from .inference.classifier import Classification as Classification
from .inference.classifier import Classifier as Classifier
from .inference.detector import Detector as Detector
from .inference.detector_function import InferenceFunction as InferenceFunction
from .inference.detector_function import build_function as build_function
from .loading.build import build_model as build_model
from .loading.diagnose import diagnose as diagnose
from .loading.load import LoadReport as LoadReport
from .loading.load import load_darknet_weights as load_darknet_weights
from .loading.save import save_darknet_weights as save_darknet_weights
from .ray import detect_dataset as detect_dataset
from .weights.header import Header as Header

__version__: str
