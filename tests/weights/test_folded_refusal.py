"""Refusals name arrays of the file also where batch normalization is folded into kernels."""

import numpy as np
import pytest

import yolotf
from support import messages, numpy_loader
from support.cfgs import conv, net, normalized
from yolotf.graphs.folded_network import FoldedNetwork

TEXT = net(8) + normalized(4, 3) + conv(2)
PLACES = {
    "beta": (20, 36),
    "gamma": (36, 52),
    "moving_mean": (52, 68),
    "moving_variance": (68, 84),
    "kernel": (84, 516),
}


@pytest.fixture(scope="module")
def folded():
    return FoldedNetwork(yolotf.parse_cfg(TEXT))


@pytest.mark.parametrize("role", PLACES)
def test_truncated_file_is_refused_by_the_array_it_ends_in(role, folded, tmp_path):
    begin, end = PLACES[role]
    path = tmp_path / "a.weights"
    path.write_bytes(numpy_loader.random_file(TEXT)[: begin + 5])
    with messages.refused(yolotf.SizeMismatchError) as caught:
        folded.load(path)
    assert (caught.value.role, caught.value.offset, caught.value.end) == (role, begin, end)


@pytest.mark.parametrize("role", PLACES)
def test_non_finite_number_is_refused_by_its_array(role, folded, tmp_path):
    begin = PLACES[role][0]
    numbers = np.frombuffer(numpy_loader.random_file(TEXT), np.float32).copy()
    numbers[begin // 4] = -1 if role == "moving_variance" else np.nan
    path = tmp_path / "a.weights"
    path.write_bytes(numbers.tobytes())
    with messages.refused(yolotf.ContentError) as caught:
        folded.load(path)
    assert (caught.value.role, caught.value.offset) == (role, begin)
