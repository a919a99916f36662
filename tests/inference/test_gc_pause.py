"""The pause of the garbage collector before a server's first answer."""

import gc

import pytest

from yolotf.inference import gc_pause as _collector


@pytest.fixture
def collections():
    seen = []

    def note(phase, info):
        if phase == "start":
            seen.append(info["generation"])

    gc.callbacks.append(note)
    yield seen
    gc.callbacks.remove(note)


@pytest.mark.slow
def test_existing_objects_are_moved_to_the_oldest_generation(collections):
    gc.collect()
    collections.clear()
    kept = [[] for _ in range(600)]  # fewer than it takes for a first look
    assert gc.get_count()[0] > 500
    _collector.postpone()
    assert gc.get_count()[0] < 100
    assert gc.get_count()[1:] == (0, 0)
    assert gc.get_freeze_count() == 0
    assert gc.isenabled()
    assert 2 not in collections
    assert len(kept) == 600


def test_garbage_is_still_found(collections):
    class Ring:
        def __init__(self):
            self.self = self

    Ring()
    _collector.postpone()
    assert gc.collect() >= 1
    assert 2 in collections


def test_objects_frozen_by_the_caller_stay_frozen():
    gc.freeze()
    try:
        frozen = gc.get_freeze_count()
        _collector.postpone()
        # Threads of other tests may still let go of some.
        assert gc.get_freeze_count() > frozen // 2 > 0
    finally:
        gc.unfreeze()
