"""Causes and warnings: a frozen class for each kind, with its facts, message and fix."""

from yolotf.diagnosis.causes.files import Damaged as Damaged
from yolotf.diagnosis.causes.files import NotWeights as NotWeights
from yolotf.diagnosis.causes.files import PartialBackbone as PartialBackbone
from yolotf.diagnosis.causes.files import TextDamage as TextDamage
from yolotf.diagnosis.causes.files import Trailing as Trailing
from yolotf.diagnosis.causes.files import Truncated as Truncated
from yolotf.diagnosis.causes.finding import MESSAGE_ONLY as MESSAGE_ONLY
from yolotf.diagnosis.causes.finding import Finding as Finding
from yolotf.diagnosis.causes.networks import TAKES_CLASSES as TAKES_CLASSES
from yolotf.diagnosis.causes.networks import Channels as Channels
from yolotf.diagnosis.causes.networks import ClassCount as ClassCount
from yolotf.diagnosis.causes.networks import Folded as Folded
from yolotf.diagnosis.causes.networks import HeadFilters as HeadFilters
from yolotf.diagnosis.causes.networks import LayerShape as LayerShape
from yolotf.diagnosis.causes.networks import OtherArchitecture as OtherArchitecture
from yolotf.diagnosis.causes.networks import Unknown as Unknown
from yolotf.diagnosis.causes.warnings import CfgLine as CfgLine
from yolotf.diagnosis.causes.warnings import HeaderWidth as HeaderWidth
from yolotf.diagnosis.causes.warnings import ModelDifference as ModelDifference
from yolotf.diagnosis.causes.warnings import SameSizeNetworks as SameSizeNetworks
from yolotf.diagnosis.causes.warnings import Unverified as Unverified
