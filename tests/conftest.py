"""Fixtures of every test."""

from pathlib import Path

import helpers
import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of stock cfgs, real weights and reports; tests that need it skip without it."""
    if not helpers.SHARED.is_dir():
        pytest.skip(helpers.NO_SHARED)
    return helpers.SHARED
