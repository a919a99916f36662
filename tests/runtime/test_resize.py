"""Native fitting of pictures against TensorFlow's operations, to the last bit.

That those do what Darknet does is tested with the functions, loop by loop.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolotf import _core
from yolotf.darknet.cfg import Shape
from yolotf.inference import detector_function
from yolotf.runtime.resize import fit

SIDES = st.integers(1, 90)


@settings(max_examples=60, deadline=None)
@given(
    picture=st.tuples(SIDES, SIDES),
    size=st.tuples(SIDES, SIDES),
    channels=st.sampled_from([1, 3, 4, 7]),
    integers=st.booleans(),
    letter_box=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_it_is_what_the_operations_compute(picture, size, channels, integers, letter_box, seed):
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (*picture, channels)).astype(np.uint8)
    image = pixels if integers else pixels.astype(np.float32) / 255
    (found,) = fit([image], Shape(*size, channels), letter_box=letter_box)
    (expected,) = detector_function.fit(image[None], size, letter_box=letter_box).numpy()
    # Where TensorFlow's library was built with fused multiplications, a last bit may differ.
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-7)


def test_pictures_of_all_kinds_in_one_batch_on_many_threads():
    random = np.random.default_rng(3)
    large = random.integers(0, 256, (300, 500, 3)).astype(np.uint8)
    pictures = [
        large,
        large[:, ::-1],
        large[40:90, 7:60],
        random.random((1, 1, 3), np.float32),
        np.asfortranarray(random.random((40, 1000, 3), np.float32)),
    ]
    for letter_box in (False, True):
        found = fit(pictures, Shape(416, 320, 3), letter_box=letter_box, threads=5)
        for one, picture in zip(found, pictures, strict=True):
            (alone,) = fit([picture.copy()], Shape(416, 320, 3), letter_box=letter_box)
            np.testing.assert_array_equal(one, alone)
    assert fit([], Shape(4, 5, 3), letter_box=True).shape == (0, 4, 5, 3)


def test_what_is_no_picture_is_refused():
    good = np.zeros((4, 6, 3), np.uint8)
    for bad in (
        good[0],
        good.astype(np.int8),
        good.astype(np.float64),
        good[:, ::2],
        good[..., :1],
    ):
        with pytest.raises(
            ValueError, match=r"must be uint8 or float32 \[height, width, 3\], cont"
        ):
            _core.fit([bad], (8, 8, 3), [(8, 8)])
    with pytest.raises(ValueError, match="a picture of 0x6 pixels"):
        _core.fit([good[:0]], (8, 8, 3), [(8, 8)])
    with pytest.raises(ValueError, match="a fitted picture of 0x8 pixels"):
        _core.fit([good], (8, 8, 3), [(0, 8)])
    with pytest.raises(ValueError, match="larger than the input"):
        _core.fit([good], (8, 8, 3), [(8, 9)])
    with pytest.raises(ValueError, match="1 sizes for 2 pictures"):
        _core.fit([good, good], (8, 8, 3), [(8, 8)])
