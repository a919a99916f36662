"""Explains why a file and a network do not match; never imports TensorFlow."""

from yolotf.diagnosis.result import Diagnosis as Diagnosis
from yolotf.diagnosis.result import Inspection as Inspection
from yolotf.diagnosis.result import diagnose as diagnose
from yolotf.diagnosis.result import inspect as inspect
