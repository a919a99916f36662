"""Pickles of an earlier version load: values that programs keep, such as the diagnosis of a file.

tests/data/values_of_0.2.0.dev.pickle was written while some fields of findings had other names.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

import yolotf
from support.networks_of_sections import SMALL

DATA = Path(__file__).parent / "data" / "values_of_0.2.0.dev.pickle"


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    loaded: dict[str, Any] = pickle.loads(DATA.read_bytes())
    return loaded


def test_findings_have_the_current_fields(values):
    classes, shape, unknown, part = values["findings"]
    assert classes.other_networks == "yolov3-tiny with 3 classes has this size, too"
    assert shape.problem == "has 3 filters"
    assert shape.layer_type == "convolutional"
    assert unknown.problem == "of another network"
    assert part.contents == "2 layers"
    for finding in values["findings"]:
        assert finding.to_dict()["message"] == finding.message
        assert pickle.loads(pickle.dumps(finding)).to_dict() == finding.to_dict()


def test_a_diagnosis_is_described_and_converted(values):
    diagnosis = values["diagnosis"]
    (cause,) = diagnosis.causes
    assert cause.kind == "truncated"
    assert cause["at"] == 5000
    assert cause["expected"] == 6768
    assert "small.cfg" in str(diagnosis)
    assert cause.text in str(diagnosis)
    assert diagnosis.to_dict()["causes"][0]["kind"] == "truncated"


def test_a_network_equals_its_cfg_parsed_now(values, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("small.cfg").write_text(SMALL)
    network = yolotf.parse_cfg("small.cfg")
    assert values["network"] == network
    assert str(values["network"]) == str(network)


def test_results_are_read_and_printed(values):
    assert values["header"] == yolotf.Header(0, 2, 5, 0, 20)
    assert values["inspection"].header == values["header"]
    assert values["inspection"].layers[0].arrays[0].stats.floats == 8
    assert "small.weights" in str(values["inspection"])
    detections = values["detections"]
    assert detections.labels == ("a", "b")
    assert detections.xyxy.shape == (2, 4)
    assert values["report"].layers == 5
    assert "loaded 5 layers" in str(values["report"])
