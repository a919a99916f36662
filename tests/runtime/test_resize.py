"""Native fitting of pictures against TensorFlow's operations, to the last bit.

That those do what Darknet does is tested with the functions, loop by loop.
"""

import platform

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.messages import refused
from yolotf import _core
from yolotf.darknet.cfg import Shape
from yolotf.inference import image_operations
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
def test_resize_matches_tensorflows_operations(picture, size, channels, integers, letter_box, seed):
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (*picture, channels)).astype(np.uint8)
    image = pixels if integers else pixels.astype(np.float32) / 255
    (resized,) = fit([image], Shape(*size, channels), letter_box=letter_box)
    (expected,) = image_operations.fit(image[None], size, letter_box=letter_box).numpy()
    # Where TensorFlow's library was built with fused multiplications, a last bit may differ.
    np.testing.assert_allclose(resized, expected, rtol=0, atol=2e-7)


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
        resized = fit(pictures, Shape(416, 320, 3), letter_box=letter_box, threads=5)
        for actual, picture in zip(resized, pictures, strict=True):
            (alone,) = fit([picture.copy()], Shape(416, 320, 3), letter_box=letter_box)
            np.testing.assert_array_equal(actual, alone)
    assert fit([], Shape(4, 5, 3), letter_box=True).shape == (0, 4, 5, 3)


def test_invalid_images_are_refused():
    good = np.zeros((4, 6, 3), np.uint8)
    for bad in (
        good[0],
        good.astype(np.int8),
        good.astype(np.float64),
        good[:, ::2],
        good[..., :1],
    ):
        with refused(ValueError):
            _core.fit([bad], (8, 8, 3), [(8, 8)])
    with refused(ValueError):
        _core.fit([good[:0]], (8, 8, 3), [(8, 8)])
    with refused(ValueError):
        _core.fit([good], (8, 8, 3), [(0, 8)])
    with refused(ValueError):
        _core.fit([good], (8, 8, 3), [(8, 9)])
    with refused(ValueError):
        _core.fit([good, good], (8, 8, 3), [(8, 8)])
    with pytest.raises(MemoryError):  # 2^64 bytes
        _core.fit([np.zeros((8, 8, 4), np.uint8)], (2**30, 2**30, 4), [(8, 8)])


@settings(max_examples=80, deadline=None)
@given(
    picture=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    channels=st.sampled_from([1, 3, 4]),
    integers=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_resize_matches_opencv(picture, size, channels, integers, seed):
    cv2 = pytest.importorskip("cv2")
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (*picture, channels)).astype(np.uint8)
    image = pixels if integers else pixels.astype(np.float32) / 255
    (resized,) = fit([image], Shape(*size, channels), letter_box=False, resize="opencv")
    # On aarch64 OpenCV resizes bytes by vector code that is up to 3 levels off its own exact kind.
    on_x86 = platform.machine() in ("x86_64", "AMD64")
    interpolation = cv2.INTER_LINEAR if on_x86 else cv2.INTER_LINEAR_EXACT
    expected = cv2.resize(image, size[::-1], interpolation=interpolation).reshape(*size, channels)
    if integers:
        levels = resized * 255
        np.testing.assert_allclose(levels, np.rint(levels), atol=1e-4)  # bytes, as there
        assert np.abs(np.rint(levels) - expected).max() <= 1
    else:
        np.testing.assert_allclose(resized, expected, atol=1e-4)  # places are in float32
    # And as the operations of exported models have it.
    (traced,) = image_operations.fit(image[None], size, letter_box=False, resize="opencv").numpy()
    np.testing.assert_allclose(resized, traced, atol=1.01 / 255 if integers else 1e-4)


def test_a_letter_box_is_filled_as_opencv_would():
    cv2 = pytest.importorskip("cv2")
    pixels = np.random.default_rng(1).integers(0, 256, (100, 300, 3)).astype(np.uint8)
    (resized,) = fit([pixels], Shape(60, 90, 3), letter_box=True, resize="opencv")
    expected = np.full((60, 90, 3), 0.5)
    expected[15:45] = cv2.resize(pixels, (90, 30)) / 255
    assert np.abs(resized - expected).max() < 1.01 / 255


@pytest.mark.parametrize("threads", [1, 5])
def test_resizing_to_the_same_size_changes_nothing(threads):
    pixels = np.random.default_rng(1).integers(0, 256, (90, 70, 3)).astype(np.uint8)
    (resized,) = fit([pixels], Shape(90, 70, 3), letter_box=False, resize="opencv", threads=threads)
    np.testing.assert_array_equal(np.rint(resized * 255), pixels)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(30, 50), (1, 7), (64, 64), (200, 90), (1, 1)])
def test_resize_matches_opencvs_exact_interpolation_bit_for_bit(size, channels):
    cv2 = pytest.importorskip("cv2")
    pixels = np.random.default_rng(3).integers(0, 256, (64, 48, channels), np.uint8)
    (resized,) = fit([pixels], Shape(*size, channels), letter_box=False, resize="opencv_exact")
    wanted = cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_LINEAR_EXACT)
    np.testing.assert_array_equal(np.rint(resized * 255), wanted.reshape(resized.shape))
