"""The sentences of errors are recorded once, in tests/messages/, and nowhere else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import messages
from support.messages import refused, said

TESTS = Path(__file__).parent
OTHERS_WORDS = {
    # Python's, pybind11's, TensorFlow's and the engines'.
    ("formats/test_graph_formats.py", "'(?i)dim|shape|incompatible|expected|got'"),
    ("inference/test_inference.py", "'as many shapes as handles'"),
    ("test_old_paths.py", r"'yolotf\\.never'"),
    ("test_servers.py", "'500'"),
    ("test_public_api.py", "\"unexpected keyword argument 'odl'\""),
    ("weights/test_core.py", "'embedded null byte'"),
    # The test's own, handed through.
    ("formats/test_convert.py", "'failed'"),
    ("runtime/test_memory.py", '"an image\'s copy"'),
    ("test_pages.py", "'page 1 ended the process'"),
}
"""File of tests and pattern."""


def expected_words(path: Path) -> Iterator[str]:
    """What `pytest.raises` and `pytest.warns` look for in a file of tests."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield from (
                ast.unparse(keyword.value) for keyword in node.keywords if keyword.arg == "match"
            )


@pytest.mark.slow
def test_tests_match_no_sentences_by_pattern():
    patterns = {
        (path.relative_to(TESTS).as_posix(), words)
        for path in TESTS.rglob("test_*.py")
        for words in expected_words(path)
    }
    assert sorted(patterns - OTHERS_WORDS) == [], (
        "use support.messages.refused; see CONTRIBUTING.md"
    )
    assert sorted(OTHERS_WORDS - patterns) == [], "no longer there: take it off the list"


def test_every_recorded_sentence_belongs_to_a_test(request):
    plugin = request.config.pluginmanager.get_plugin(messages.PLUGIN)
    gone = [] if plugin.update else plugin.gone()
    assert gone == [], f"run pytest {messages.UPDATE}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{tmp}/a.weights: short", "<tmp>/a.weights: short"),
        ("{tmp}: no such folder", "<tmp>: no such folder"),
        ("http://127.0.0.1:43121/a.weights", "http://127.0.0.1:<port>/a.weights"),
        ("built for TensorFlow 2.16.2, runs 2", "built for TensorFlow <version>, runs 2"),
        ("the header of version 0.2.5", "the header of version 0.2.5"),
        ("ModelMismatchError: functional: no", "ModelMismatchError: <model>: no"),
        ("ModelMismatchError: model: no", "ModelMismatchError: <model>: no"),
        ("outputs of functional_12, conv_12", "outputs of <model>, conv_12"),
        ("conv2d_3/kernel", "conv2d/kernel"),
        ("at bytes 84..516 of 516", "at bytes 84..516 of 516"),
    ],
)
def test_what_differs_between_machines_is_left_out(text, expected, tmp_path):
    assert messages.normalized(text.format(tmp=tmp_path)) == expected


def running(*recorded, update=False):
    return messages.Running(messages.FOLDER / "tests.json", "test_it", list(recorded), update)


def test_recorded_sentences_are_compared_in_order():
    test = running("one", "two")
    test.compare("one")
    test.compare("two")
    test.finish()


@pytest.mark.parametrize(
    ("recorded", "shown"),
    [(["one"], ["other"]), ([], ["one"]), (["one"], ["one", "two"]), (["one", "two"], ["one"])],
    ids=["changed", "not recorded", "one more", "one less"],
)
def test_changed_sentences_fail_and_name_the_option(recorded, shown):
    def run():
        test = running(*recorded)
        for text in shown:
            test.compare(text)
        test.finish()

    with pytest.raises(pytest.fail.Exception) as caught:
        run()
    assert messages.UPDATE in str(caught.value)
    assert "messages/tests.json: test_it" in str(caught.value)


def test_update_messages_records_sentences(tmp_path, monkeypatch):
    monkeypatch.setattr(messages, "FOLDER", tmp_path)
    file = tmp_path / "some.json"
    messages.write(file, {"b": ["two\nlines"], "a": ["one", 'é "'], "none": []}, set())
    assert messages.read(file) == {"a": ["one", 'é "'], "b": ["two\nlines"]}
    messages.write(file, {"b": []}, {"a"})
    assert messages.read(file) == {}


def test_refused_checks_type_code_and_facts():
    from yolotf import CfgError, HeaderError, YolotfError

    def refuse():
        raise HeaderError("a.weights: 3 bytes, a header has at least 16", expected=16, found=3)

    with refused(YolotfError, code="header", expected=16, found=3) as caught:
        refuse()
    assert caught.value.found == 3
    for kind, facts in ((YolotfError, {"code": "cfg"}), (YolotfError, {"found": 4})):
        with pytest.raises(AssertionError), refused(kind, **facts):
            refuse()
    with pytest.raises(HeaderError), refused(CfgError):
        refuse()
    with pytest.raises(pytest.fail.Exception), refused(HeaderError):
        pass


def test_hide_leaves_out_what_differs_between_machines():
    said("needs 12.5 GiB, 7.9 GiB are free", hide=r"[\d.]+(?= GiB)")
