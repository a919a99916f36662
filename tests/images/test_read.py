"""Reading images: every accepted source, and the values that are refused."""

import contextlib
import gzip
import io
import itertools
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from support import messages, weights_files
from yolotf.errors import MissingPackageError, OutOfMemoryError
from yolotf.images.read import open_picture, read_picture

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 20, 3)).astype(np.uint8)


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def sources(path):
    png = encoded(Image.fromarray(PIXELS))
    path.write_bytes(png)
    return {
        "path": path,
        "text": str(path),
        "pillow": Image.open(io.BytesIO(png)),
        "array": PIXELS,
        "strided": np.repeat(PIXELS, 2, 0)[::2],
        "tensor": tf.constant(PIXELS),
        "variable": tf.Variable(PIXELS),
        "bytes": png,
        "bytearray": bytearray(png),
        "memoryview": memoryview(png),
        "BytesIO": io.BytesIO(png),
        "string tensor": tf.constant(png),
        "rgba": np.dstack([PIXELS, PIXELS[..., :1]]),
    }


@pytest.mark.parametrize("form", ["path", "text", "pillow"])
def test_files_are_read(form, tmp_path):
    pixels = read_picture(sources(tmp_path / "a.png")[form], 3)
    np.testing.assert_array_equal(pixels, PIXELS)


@pytest.mark.parametrize(
    "form",
    [
        "array",
        "strided",
        "tensor",
        "variable",
        "bytes",
        "bytearray",
        "memoryview",
        "BytesIO",
        "string tensor",
        "rgba",
    ],
)
def test_images_in_memory_are_read(form, tmp_path):
    picture = sources(tmp_path / "a.png")[form]
    np.testing.assert_array_equal(read_picture(picture, 3), PIXELS)


def test_open_files_are_read(tmp_path):
    sources(tmp_path / "a.png")
    with (tmp_path / "a.png").open("rb") as file:
        np.testing.assert_array_equal(read_picture(file, 3), PIXELS)


@pytest.mark.parametrize("dtype", [tf.float32, tf.float16, tf.bfloat16, tf.float64])
def test_floats_stay_floats(dtype):
    values = tf.cast(tf.constant([[[0.0, 0.5, 1.0]]]), dtype)
    pixels = read_picture(values, 3)
    assert pixels.dtype == np.float32
    np.testing.assert_array_equal(pixels, [[[0, 0.5, 1]]])
    assert np.asarray(open_picture(values)).tolist() == [[[0, 128, 255]]]


def test_resizing_may_overshoot_a_little():
    pixels = read_picture(np.array([[[-1e-4, 0.5, 1.0001]]], np.float32), 3)
    assert pixels.max() > 1


def test_bgr_applies_to_arrays_only(tmp_path):
    forms = sources(tmp_path / "a.png")
    np.testing.assert_array_equal(read_picture(PIXELS[..., ::-1], 3, bgr=True), PIXELS)
    np.testing.assert_array_equal(open_picture(PIXELS[..., ::-1], bgr=True), PIXELS)
    for form in ("path", "pillow", "bytes"):
        np.testing.assert_array_equal(read_picture(forms[form], 3, bgr=True), PIXELS)
    four = np.dstack([PIXELS[..., ::-1], PIXELS[..., :1]])
    np.testing.assert_array_equal(read_picture(four, 4, bgr=True)[..., :3], PIXELS)
    grey = Image.fromarray(PIXELS).convert("L")
    np.testing.assert_array_equal(
        read_picture(PIXELS[..., ::-1], 1, bgr=True)[..., 0], np.asarray(grey)
    )


def test_four_channels_of_files(tmp_path):
    four = np.dstack([PIXELS, PIXELS[..., 0]])
    Image.fromarray(four).save(tmp_path / "four.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "four.png", 4), four)
    cmyk = encoded(Image.fromarray(four, "RGBA").convert("RGB").convert("CMYK"), "TIFF")
    assert read_picture(cmyk, 4).shape == (12, 20, 4)
    with messages.refused(ValueError):
        read_picture(tmp_path / "four.png", 5)
    Image.fromarray(PIXELS).save(tmp_path / "three.png")
    with messages.refused(ValueError):
        read_picture(tmp_path / "three.png", 4)
    many = np.zeros((3, 4, 7), np.uint8)
    assert read_picture(many, 7) is many


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_images_are_scaled_to_eight(kind):
    deep = np.array([[0, 257, 25700, 65535]], np.uint16)
    wanted = [[0, 1, 100, 255]]
    assert np.asarray(open_picture(encoded(Image.fromarray(deep), kind))).tolist() == wanted
    assert read_picture(encoded(Image.fromarray(deep), kind), 3)[0, :, 1].tolist() == wanted[0]


def test_wide_integers_up_to_255_are_kept():
    image = Image.fromarray(np.array([[3, 255]], np.int32))
    assert np.asarray(open_picture(image)).tolist() == [[3, 255]]
    with messages.refused(ValueError):
        open_picture(Image.fromarray(np.array([[0, 70000]], np.int32)))


@pytest.mark.parametrize("read", [open_picture, lambda picture: read_picture(picture, 3)])
@pytest.mark.parametrize(
    ("picture", "error"),
    [
        (None, TypeError),
        (PIXELS[:0], ValueError),
        (np.zeros((4, 0), np.uint8), ValueError),
        (PIXELS[None], ValueError),
        (PIXELS[0, 0], ValueError),
        (PIXELS.astype(np.float32), ValueError),
        (PIXELS / 127.5 - 1, ValueError),
        (np.float32([[np.nan]]), ValueError),
        (np.float32([[np.inf]]), ValueError),
        (PIXELS.astype(np.int32), TypeError),
        (PIXELS.astype(np.uint16), TypeError),
        (PIXELS > 9, TypeError),
        (PIXELS.astype(np.complex64), TypeError),
        (PIXELS.astype(str), TypeError),
        (7, TypeError),
        ([PIXELS], TypeError),
        ({}, TypeError),
        (np.zeros((9, 9, 7), np.uint8), ValueError),
    ],
)
def test_value_that_is_no_image_is_refused(read, picture, error):
    with messages.refused(error):
        read(picture)


def test_file_open_in_text_mode_is_refused(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("text")
    with (
        path.open(encoding="utf-8") as file,
        messages.refused(TypeError),
    ):
        open_picture(file)


def test_a_tensor_without_a_value_is_refused():
    @tf.function(autograph=False)
    def traced(image):
        with messages.refused(TypeError, hide="(Symbolic)?Tensor"):
            open_picture(image)
        return image

    traced(tf.constant(PIXELS))


PILLOW = "(?<=: )image file is truncated.*|(?<=: )broken .*|(?<=: )unrecognized .*"
"""What Pillow says about half a file."""
WEIGHTS = weights_files.content(np.ones(99), header=weights_files.header(64))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<!DOCTYPE html><html><title>Not found</title></html>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n",
        pytest.param(gzip.compress(b"picture"), id="gzip"),
        b"404: Not Found",
        WEIGHTS,
        bytes(range(128, 256)) * 9,
        encoded(Image.fromarray(PIXELS))[:200],
    ],
)
def test_file_of_another_kind_is_refused_by_its_kind(content, tmp_path):
    (tmp_path / "a.jpg").write_bytes(content)
    with messages.refused(OSError, hide=PILLOW):
        read_picture(tmp_path / "a.jpg", 3)
    with messages.refused(OSError, hide=PILLOW):
        read_picture(content, 3)


def test_missing_file_is_the_systems_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        open_picture(tmp_path / "none.jpg")
    with pytest.raises(IsADirectoryError):
        open_picture(tmp_path)


def test_decompression_bomb_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    path = tmp_path / "bomb.png"
    Image.fromarray(PIXELS).save(path)
    with messages.refused(OSError):
        open_picture(path)


def as_bytes(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def fits(bits):
    cards = ["SIMPLE  =                    T", f"BITPIX  = {8:20}", f"NAXIS   = {0:20}", "END"]
    table = ["XTENSION= 'BINTABLE'", f"BITPIX  = {8:20}", f"NAXIS   = {2:20}", f"NAXIS1  = {8:20}"]
    table += [f"NAXIS2  = {1:20}", f"PCOUNT  = {0:20}", f"GCOUNT  = {1:20}", f"TFIELDS = {1:20}"]
    table += ["ZIMAGE  =                    T", "ZCMPTYPE= 'GZIP_1  '", f"ZBITPIX = {bits:20}"]
    table += [f"ZNAXIS  = {2:20}", f"ZNAXIS1 = {8:20}", f"ZNAXIS2 = {8:20}", "END"]
    headers = ["".join(card.ljust(80) for card in part) for part in (cards, table)]
    return "".join(f"{header:2880}" for header in headers).encode() + bytes(2880)


@pytest.mark.parametrize(
    ("kind", "form"),
    # Pillow itself limits the pixels in an ICO or ICNS that the caller has opened with it.
    [*itertools.product(["ICO", "ICNS", "FITS"], ["path", "bytes", "file"]), ("FITS", "pillow")],
)
def test_format_whose_header_does_not_bound_the_pixels_is_refused(kind, form, tmp_path):
    image = Image.new("RGB", (32, 32))
    content = fits(8) if kind == "FITS" else as_bytes(image, kind)
    path = tmp_path / "a.png"  # whatever its name says
    path.write_bytes(content)
    with contextlib.ExitStack() as stack:
        given = {
            "path": lambda: path,
            "bytes": lambda: content,
            "file": lambda: stack.enter_context(path.open("rb")),
            "pillow": lambda: stack.enter_context(Image.open(path)),
        }[form]()
        with messages.refused(OSError):
            open_picture(given)


def with_scans(count, mode="L"):
    """Returns a progressive JPEG with its last scan repeated until it has `count` scans."""
    noise = np.random.default_rng(3).integers(0, 256, (24, 24), dtype=np.uint8)
    content = as_bytes(Image.fromarray(noise).convert(mode), "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    end = content.rindex(b"\xff\xd9")
    missing = count - content.count(b"\xff\xda")
    return content[:end] + content[last:end] * missing + content[end:]


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_of_more_scans_than_encoders_write_is_refused(mode, tmp_path):
    thumbnail = Image.Exif()
    thumbnail[0x927C] = b"\xff\xda" * 200  # in a segment, not a scan
    most = with_scans(100, mode)
    assert open_picture(most).size == (24, 24)
    content = with_scans(101, mode)
    for given in (content, Image.open(io.BytesIO(content)), content[:-2]):
        with messages.refused(OSError):
            open_picture(given)
    exif = as_bytes(Image.open(io.BytesIO(most)), "JPEG", progressive=True, exif=thumbnail)
    assert open_picture(exif + content).size == (24, 24)  # data behind the end does not count


def test_image_larger_than_memory_is_refused():
    """The image is a view of one number; a copy would have 2**60 bytes."""
    huge = np.broadcast_to(np.float64(0.5), (2**29, 2**29, 1))
    with messages.refused(OutOfMemoryError):
        read_picture(huge, 1)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_truncated_jpeg_is_read_as_far_as_it_goes(progressive, share, tmp_path):
    blurred = Image.fromarray(PIXELS).resize((320, 240), Image.Resampling.BICUBIC)
    whole = encoded(blurred, "JPEG", progressive=progressive, quality=95)
    path = tmp_path / "cut.jpg"
    path.write_bytes(whole[: int(len(whole) * share)])
    expected = np.asarray(Image.open(io.BytesIO(whole)))
    for source in (path, path.read_bytes()):
        with messages.warned(UserWarning, hide=r"\d+(?= bytes)"):
            image = read_picture(source, 3)
        assert image.shape == expected.shape
        same = np.abs(image.astype(int) - expected).max(axis=(1, 2)) <= 8
        if progressive:  # all of it is there, less sharp
            assert np.abs(image.astype(int) - expected).mean() < 20
        else:
            assert 0.5 * share < same.mean() < 1
            assert same[: int(120 * share)].all()


def test_jpeg_header_without_pixels_is_refused(tmp_path):
    whole = encoded(Image.fromarray(PIXELS), "JPEG")
    start = whole.index(b"\xff\xda")
    (tmp_path / "a.jpg").write_bytes(whole[: start + 14])
    with messages.refused(OSError, hide=PILLOW):
        read_picture(tmp_path / "a.jpg", 3)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_first_of_several_frames_is_read_with_a_warning(kind, tmp_path):
    frames = [Image.new("RGB", (30, 20), colour) for colour in ("red", "blue", "lime")]
    path = tmp_path / f"a.{kind.lower()}"
    frames[0].save(path, kind, save_all=True, append_images=frames[1:])
    with messages.warned(UserWarning):
        image = read_picture(path, 3)
    assert (np.abs(image.astype(int) - [255, 0, 0]) < 12).all()
    frames[0].save(path, kind)
    read_picture(path, 3)  # without a warning


def test_heic_is_read_with_pillow_heif(tmp_path, monkeypatch):
    heif = pytest.importorskip("pillow_heif", reason="HEIC pictures are written by pillow-heif")
    path = tmp_path / "IMG_0001.HEIC"
    heif.from_pillow(Image.new("RGB", (64, 48), (200, 40, 90))).save(path)
    assert read_picture(path, 3).shape == (48, 64, 3)
    assert (np.abs(read_picture(path.read_bytes(), 3).astype(int) - [200, 40, 90]) < 12).all()


def test_heic_without_pillow_heif_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    # Another test may have registered it.
    monkeypatch.setattr(Image, "ID", [name for name in Image.ID if name not in ("HEIC", "HEIF")])
    path = tmp_path / "IMG_0001.HEIC"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    with messages.refused(MissingPackageError):
        read_picture(path, 3)
