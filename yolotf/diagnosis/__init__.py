"""Explains why a file and a network do not match; never imports TensorFlow."""

from yolotf.diagnosis.file_diagnosis import Diagnosis as Diagnosis
from yolotf.diagnosis.file_diagnosis import diagnose as diagnose
from yolotf.diagnosis.inspection import Inspection as Inspection
from yolotf.diagnosis.inspection import inspect as inspect
