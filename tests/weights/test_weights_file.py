"""`WeightsFile` and `ParsedFile`: an opened file, and with its header."""

import contextlib

import numpy as np
import pytest

import yolotf
from support import load_helpers as loading
from support import weights_files
from yolotf import _core
from yolotf.weights.file import WeightsFile


@pytest.mark.parametrize(("version_bytes", "seen_bytes"), [(20, 8), (20, 4), (16, 4), (16, 8)])
def test_the_number_of_floats_decides_about_the_width(tmp_path, version_bytes, seen_bytes):
    version = (0, 2, 5) if version_bytes == 20 else (0, 1, 0)
    header = weights_files.header(7, version=version, seen_bytes=seen_bytes)
    path = weights_files.write(tmp_path / "a.weights", np.ones(9), header=header)
    file = WeightsFile.named(path)
    parsed = file.parsed(9)
    assert (parsed.path, parsed.name) == (str(path), str(path))
    assert (parsed.header.size_bytes, parsed.header.seen) == (len(header), 7)
    assert (parsed.floats, parsed.size_of(9)) == (9, path.stat().st_size)
    assert file.parsed().header.size_bytes == version_bytes
    # Both widths leave whole floats; the one that the version specifies comes first.
    widths = [layout.header.size_bytes for layout in file.layouts()]
    assert widths == [version_bytes, 36 - version_bytes]
    for layout in file.layouts():
        assert layout.size_of(layout.floats) == path.stat().st_size
        assert file.parsed(layout.floats) == layout
        assert parsed.with_width(layout.header.size_bytes) == layout


def test_bytes_after_the_last_whole_float_are_not_counted(tmp_path):
    path = tmp_path / "a.weights"
    path.write_bytes(weights_files.content(np.ones(9)) + b"abc")
    file = WeightsFile.named(path)
    assert file.parsed(9).floats == 9
    assert not list(file.layouts())


@pytest.mark.parametrize("task", ["load", "partial", "diagnose", "inspect", "other"])
def test_the_start_of_a_file_is_read_once(task, tmp_path, monkeypatch):
    path = tmp_path / "a.weights"
    path.write_bytes(loading.content(loading.PLAIN))
    model = loading.build(loading.PLAIN)
    reads = []
    read_start = _core.read_start
    monkeypatch.setattr(_core, "read_start", lambda file: reads.append(file) or read_start(file))
    match task:
        case "load":
            yolotf.load_darknet_weights(model, path)
        case "partial":
            yolotf.load_darknet_weights(model, path, skip_mismatch=True, network=loading.PLAIN)
        case "diagnose":
            assert yolotf.diagnose(path, loading.PLAIN).layers
        case "inspect":
            assert yolotf.inspect(path, loading.PLAIN).layers
        case "other":
            path.write_bytes(path.read_bytes()[:-8])
            with contextlib.suppress(yolotf.WeightsMismatch):
                yolotf.load_darknet_weights(model, path)
    assert reads == [str(path)]
