"""The sentences of errors, in one place: `tests/messages/`, one file for each folder of tests.

    with refused(yolotf.SizeMismatchError, code="size-mismatch", expected=24) as caught:
        yolotf.load_darknet_weights(model, path)

checks the error's type, code and facts, and compares its sentence with the sentence recorded for
this test. `pytest --update-messages` records the sentences of the tests that it runs; the diff then
shows what changed. Sentences of other libraries and of the system are not recorded: for those,
tests use `pytest.raises`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.helpers import SHARED

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
FOLDER = TESTS / "messages"
UPDATE = "--update-messages"
PLUGIN = "yolotf-messages"

Sentences = dict[str, list[str]]


@contextlib.contextmanager
def refused(
    kind: type[BaseException] | tuple[type[BaseException], ...],
    *,
    code: str | None = None,
    hide: str | None = None,
    **facts: Any,
) -> Iterator[pytest.ExceptionInfo[Any]]:
    """Expects an error of yolotf, as `pytest.raises` does, and compares its sentence.

    Args:
        kind: the error's type, or several.
        code: its `code`.
        hide: a pattern of what differs between machines or runs; recorded as `...`.
        facts: what its attributes must be.
    """
    __tracebackhide__ = True
    with pytest.raises(kind) as caught:
        yield caught
    error = caught.value
    if code is not None:
        assert error.code == code
    for name, expected in facts.items():
        assert getattr(error, name) == expected, name
    text = str(error)
    if isinstance(error, OSError) and error.errno:
        text = text.replace(os.strerror(error.errno), "<strerror>")
        text = text.replace(f"[Errno {error.errno}]", f"[{errno.errorcode[error.errno]}]")
    said(f"{type(error).__name__}: {text}", hide=hide)


@contextlib.contextmanager
def warned(kind: type[Warning], *, hide: str | None = None) -> Iterator[pytest.WarningsRecorder]:
    """Expects warnings of yolotf, as `pytest.warns` does, and compares their sentences."""
    __tracebackhide__ = True
    with pytest.warns(kind) as caught:
        yield caught
    for text in sorted(f"{warning.category.__name__}: {warning.message}" for warning in caught):
        said(text, hide=hide)


def said(text: str, *, hide: str | None = None) -> None:
    """Compares a sentence, such as what a command wrote to stderr, with the recorded one."""
    __tracebackhide__ = True
    if _running is None:
        raise RuntimeError("sentences are compared while a test runs")
    assert text, "there is no sentence to compare"
    text = normalized(text)
    _running.compare(re.sub(hide, "...", text) if hide else text)


def reported(stderr: str) -> str:
    """Returns the lines of stderr in which a command reports errors and notes.

    Everything else there differs between runs: times, progress, logs of other libraries.
    """
    return "\n".join(
        line for line in stderr.splitlines() if line.startswith(("yolotf: ", "note: "))
    )


def normalized(text: str) -> str:
    """Returns a sentence without what differs between machines and runs.

    Left out are paths, ports, addresses, versions, the numbers that Keras appends to names, and
    names that tf_keras spells differently.
    """
    for pattern, name in _DIFFERS:
        text = pattern.sub(name, text)
    return text


_PACKAGES = "TensorFlow|Keras|NumPy|Python|yolotf|tensorflow|keras|tf_keras|numpy"
_KERAS_NAMES = (
    "activation|add|average_pooling2d|batch_normalization|block|concatenate|conv2d|dense|"
    "depthwise_conv2d|flatten|input_layer|lambda|leaky_re_lu|max_pooling2d|multiply|permute|"
    "re_lu|reshape|residual|resize|sequential|stage|subclassed|up_sampling2d|zero_padding2d"
)
_TEMPORARY = f"(?:/private)?{re.escape(tempfile.gettempdir())}"
_DIFFERS = [
    (
        re.compile(rf"{_TEMPORARY}/pytest-of-[^/\s]+/pytest-\d+(/popen-gw\d+)?/[^/\s:;,')\"]+"),
        "<tmp>",
    ),
    (re.compile(rf"{_TEMPORARY}/tmp\w+"), "<tmp>"),
    (re.compile(re.escape(str(SHARED))), "<shared>"),
    (re.compile(re.escape(sys.executable)), "<python>"),
    (re.compile(re.escape(sys.prefix)), "<prefix>"),
    (re.compile(re.escape(str(ROOT))), "<root>"),
    (re.compile(r"\b127\.0\.0\.1:\d+"), "127.0.0.1:<port>"),
    (re.compile(r"\b0x[0-9a-f]{6,}"), "0x..."),
    (re.compile(rf"\b((?:{_PACKAGES})(?: |==|-))\d+(?:\.\d+)+[\w.+-]*(?<!\.)"), r"\1<version>"),
    (
        re.compile(r"\bfunctional(_\d+)?\b|\bmodel_\d+\b|(?<=(?:Error|rning): )model(?=:)"),
        "<model>",
    ),
    (re.compile(rf"\b({_KERAS_NAMES})_\d+\b"), r"\1"),
]


class Running:
    """The running test, and the sentences it has shown so far."""

    def __init__(self, file: Path, test: str, recorded: list[str], update: bool) -> None:
        self.file = file
        self.test = test
        self.recorded = recorded
        self.update = update
        self.seen: list[str] = []

    def compare(self, text: str) -> None:
        """Compares the next sentence with the recorded one.

        Raises:
            AssertionError: they differ.
        """
        __tracebackhide__ = True
        number = len(self.seen)
        self.seen.append(text)
        if self.update:
            return
        where = f"{self.file.relative_to(ROOT)}: {self.test}"
        if number >= len(self.recorded):
            pytest.fail(
                f"{where} has no sentence {number + 1}; read this one, then run pytest {UPDATE}:\n"
                f"{text}",
            )
        if text != self.recorded[number]:
            pytest.fail(
                f"{where}: sentence {number + 1} differs; is it better, run pytest {UPDATE}\n"
                f"- {self.recorded[number]}\n+ {text}",
            )

    def finish(self) -> None:
        """Checks that no recorded sentence is left.

        Raises:
            AssertionError: the test showed fewer sentences.
        """
        missing = self.recorded[len(self.seen) :]
        if missing and not self.update:
            pytest.fail(
                f"{self.file.relative_to(ROOT)}: {self.test} no longer shows these; run pytest "
                f"{UPDATE}:\n" + "\n".join(missing),
            )


_running: Running | None = None


class Plugin:
    """Provides each test with its recorded sentences, and records those that it shows."""

    def __init__(self, update: bool) -> None:
        self.update = update
        self.recorded: dict[Path, Sentences] = {}
        self.shown: dict[Path, Sentences] = {}
        self.collected: dict[Path, set[str]] = {}

    def of(self, file: Path) -> Sentences:
        """Returns the contents of a file of sentences."""
        if file not in self.recorded:
            self.recorded[file] = read(file)
        return self.recorded[file]

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Records the tests of completely collected files, before any is deselected."""
        if any("::" in argument for argument in config.args):
            return
        for item in items:
            self.collected.setdefault(item.path, set()).add(test_name(item))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        global _running
        file, test = file_of(item), test_name(item)
        _running = Running(file, test, self.of(file).get(test, []), self.update)
        try:
            result = yield
            _running.finish()
            self.shown.setdefault(file, {})[test] = _running.seen
            return result
        finally:
            _running = None

    def gone(self) -> list[tuple[Path, str]]:
        """Returns recorded sentences whose tests are no longer in completely collected files."""
        names = {}
        for path, tests in self.collected.items():
            names[path.relative_to(TESTS).as_posix()] = tests
        gone = []
        for file in sorted(FOLDER.glob("*.json")):
            if file.stem.endswith("-shared") and not SHARED.is_dir():
                continue
            for test in self.of(file):
                tests = names.get(test.partition("::")[0])
                if tests is not None and test not in tests:
                    gone.append((file, test))
        return gone

    def pytest_sessionfinish(self) -> None:
        """Writes the sentences that tests have shown."""
        if not self.update:
            return
        gone = self.gone()
        for file in {*self.shown, *(file for file, _ in gone)}:
            write(file, self.shown.get(file, {}), {test for other, test in gone if other == file})


def test_name(item: pytest.Item) -> str:
    """Returns a name such as `cli/test_cli.py::test_it[one]`."""
    path = item.path.relative_to(TESTS).as_posix()
    return "::".join([path, *item.nodeid.split("::")[1:]])


def file_of(item: pytest.Item) -> Path:
    """Returns the file of a test's sentences; tests that need shared have a separate file."""
    folder = item.path.parent
    name = "tests" if folder == TESTS else folder.relative_to(TESTS).parts[0]
    shared = "-shared" if item.get_closest_marker("shared") else ""
    return FOLDER / f"{name}{shared}.json"


def read(file: Path) -> Sentences:
    """Reads a file: sentences by test, in the order in which the test shows them."""
    if not file.exists():
        return {}
    recorded: dict[str, list[str]] = json.loads(file.read_text(encoding="utf-8"))
    return {test: [as_text(lines) for lines in sentences] for test, sentences in recorded.items()}


def as_text(lines: str | list[str]) -> str:
    """Returns the file as text; a sentence of several lines becomes a list."""
    return lines if isinstance(lines, str) else "\n".join(lines)


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Prevents other processes of this run from writing meanwhile."""
    descriptor = os.open(FOLDER, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def write(file: Path, shown: Sentences, gone: set[str]) -> None:
    """Replaces the sentences of some tests; other processes may write the same file."""
    with locked():
        kept = {test: sentences for test, sentences in read(file).items() if test not in gone}
        sentences = {test: lines for test, lines in (kept | shown).items() if lines}
        if sentences == read(file):
            return
        content = {
            test: [
                sentence.split("\n") if "\n" in sentence else sentence
                for sentence in sentences[test]
            ]
            for test in sorted(sentences)
        }
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        file.write_text(text, encoding="utf-8")
