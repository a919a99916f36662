"""JSON of any numbers."""

import json

from yolotf.files.json import to_json


def refuse(word):
    raise AssertionError(word)


def test_what_json_has_no_word_for_is_null():
    box = {"xyxy": (float("-inf"), 1.5, float("inf"), float("nan")), "names": ["ß", None, True]}
    found = json.loads(to_json({"boxes": [box]}), parse_constant=refuse)
    assert found == {"boxes": [{"xyxy": [None, 1.5, None, None], "names": ["ß", None, True]}]}


def test_all_else_is_as_it_was():
    facts = {"a": [1, 2.5, "x"], "b": {"c": False}}
    assert to_json(facts) == json.dumps(facts)
    assert to_json(facts, indent=2) == json.dumps(facts, indent=2)
