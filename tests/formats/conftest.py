"""Fixtures of the tests of formats."""

import pytest

from yolotf.formats import lite_process


@pytest.fixture(autouse=True)
def converter_here(request, monkeypatch):
    """Converts to `.tflite` in this process, which saves each test the import of TensorFlow.

    Tests marked `usefixtures("converter_apart")` have the process that users have.
    """
    if "converter_apart" not in request.fixturenames:
        monkeypatch.setattr(lite_process, "run", lite_process.convert)


@pytest.fixture
def converter_apart():
    """Converts to `.tflite` in another process."""
