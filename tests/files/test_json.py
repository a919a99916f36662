"""JSON of numbers that JSON cannot express: infinities and NaN."""

import json

from yolotf.files.json import to_json


def refuse(word):
    raise AssertionError(word)


def test_infinities_and_nan_become_null():
    box = {"xyxy": (float("-inf"), 1.5, float("inf"), float("nan")), "names": ["ß", None, True]}
    decoded = json.loads(to_json({"boxes": [box]}), parse_constant=refuse)
    assert decoded == {"boxes": [{"xyxy": [None, 1.5, None, None], "names": ["ß", None, True]}]}


def test_other_values_are_written_as_json_dumps_writes_them():
    facts = {"a": [1, 2.5, "x"], "b": {"c": False}}
    assert to_json(facts) == json.dumps(facts)
    assert to_json(facts, indent=2) == json.dumps(facts, indent=2)
