"""`yolotf._core`: what the native module reads, writes and refuses, against NumPy."""

import errno
import math
import os
import threading
from typing import get_args

import ml_dtypes
import numpy as np
import pytest

from support import weights_files
from support.messages import refused, said
from yolotf import _core
from yolotf.darknet.decoding import NMS_KINDS
from yolotf.darknet.layer import SECTIONS
from yolotf.darknet.roles import Role
from yolotf.runtime import decoding
from yolotf.weights import layout, statistics, write
from yolotf.weights import plan as plans

HEADER = weights_files.header(42)
ROLES = ("bias", "beta", "gamma", "moving_mean", "moving_variance", "kernel", "weights")
DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


def row(
    offset,
    filters,
    channels=1,
    spatial=1,
    *,
    shape=None,
    blocks=1,
    role="kernel",
    norm=0,
):
    shape = shape or (blocks, spatial, channels, filters)
    return [
        *(offset, norm, blocks, filters, channels, spatial, ROLES.index(role), len(shape)),
        *(*shape, *[1] * (5 - len(shape))),
    ]


def plan(*rows):
    return np.array(rows, np.int64).reshape(-1, _core.PLAN_COLUMNS)


@pytest.fixture
def weights(tmp_path):
    """Writes a file of floats and returns its path."""

    def write(floats, header=HEADER, name="a.weights"):
        path = tmp_path / name
        path.write_bytes(header + np.asarray(floats, np.float32).tobytes())
        return path

    return write


@pytest.fixture(params=["fastest", "portable"])
def isa(request):
    _core.force_portable(request.param == "portable")
    yield request.param
    _core.force_portable(False)


def failure(call, *arguments, **options):
    with pytest.raises(_core.NativeError) as caught:
        call(*arguments, **options)
    error = caught.value
    numbers = ("segment", "axis", "offset", "end", "expected", "found")
    role = _core.ROLES[error.role] if error.role >= 0 else None
    said(str(error))
    return {"code": error.code, "role": role} | {name: getattr(error, name) for name in numbers}


# the start


@pytest.mark.parametrize(
    ("header", "floats", "expected"),
    [
        ([0, 2, 5, 42, 0], -1, ((0, 2, 5, 42, 20), 20, False)),
        ([0, 2, 5, 42, 1], -1, ((0, 2, 5, 42 + 2**32, 20), 20, False)),
        ([0, 1, 0, 42], -1, ((0, 1, 0, 42, 16), 16, False)),
        ([0, 2, 5, 42], 3, ((0, 2, 5, 42, 16), 20, False)),
        ([0, 1, 0, 42, 0], 3, ((0, 1, 0, 42, 20), 16, False)),
        ([1001, 0, 0, 42], -1, ((1001, 0, 0, 42, 16), 16, True)),
        ([0, 1001, 0, -1], -1, ((0, 1001, 0, 2**32 - 1, 16), 16, True)),
        ([-(2**31), 2**31 - 1, -1, 0], -1, ((-(2**31), 2**31 - 1, -1, 0, 16), 16, True)),
    ],
)
def test_the_header_is_read_and_its_width_chosen(weights, header, floats, expected):
    path = weights([1, 2, 3], np.array(header, np.int64).astype(np.int32).tobytes())
    start, size = _core.read_start(path)
    assert (start, size) == (path.read_bytes()[:20], path.stat().st_size)
    fields = _core.parse_header(start, size, floats)
    version = fields[:2]
    assert expected == (
        fields,
        _core.version_header_bytes(*version),
        _core.stores_transposed(*version),
    )


@pytest.mark.parametrize("size", range(20))
def test_a_file_shorter_than_its_header_is_refused(tmp_path, size):
    path = tmp_path / "a.weights"
    path.write_bytes(HEADER[:size])
    needed = 20 if size >= 16 else 16
    assert failure(_core.parse_header, *_core.read_start(path)) == {
        "code": "header_too_short",
        "segment": -1,
        "axis": -1,
        "role": None,
        "offset": 0,
        "end": 0,
        "expected": needed,
        "found": size,
    }


def everything_that_reads(path):
    return [
        lambda: _core.read_start(path),
        lambda: _core.scatter(path, HEADER, -1, plan(), []),
        lambda: _core.scan(path, np.zeros(1, np.int64), np.ones(1, np.int64)),
        lambda: _core.copy_file(path, np.empty(3, np.uint8)),
    ]


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize(
    ("name", "error", "number"),
    [
        ("missing", FileNotFoundError, errno.ENOENT),
        ("", FileNotFoundError, errno.ENOENT),
        ("folder", IsADirectoryError, errno.EISDIR),
        ("file/below", NotADirectoryError, errno.ENOTDIR),
        ("fifo", OSError, errno.EINVAL),
    ],
)
def test_what_cannot_be_read_is_an_oserror(tmp_path, monkeypatch, index, name, error, number):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(error) as caught:
        everything_that_reads(name)[index]()
    assert (caught.value.errno, caught.value.filename) == (number, name)
    if name == "fifo":
        said(caught.value.strerror)
    else:
        assert caught.value.strerror == os.strerror(number)


@pytest.mark.parametrize("index", range(4))
def test_a_path_with_a_null_byte_is_not_cut_there(weights, index):
    path = weights([1])
    with pytest.raises(ValueError, match="embedded null byte"):
        everything_that_reads(f"{path}\0.weights")[index]()


@pytest.mark.parametrize("kind", ["str", "bytes", "path", "not_utf8"])
def test_every_path_type_of_python_is_accepted(weights, tmp_path, kind):
    path = weights([1, 2])
    if kind == "not_utf8":
        path = path.rename(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.weights"))
    spelled = {"str": str(path), "bytes": os.fsencode(path)}.get(kind, path)
    assert _core.read_start(spelled)[1] == 28
    with pytest.raises(TypeError):
        _core.read_start(3)


# scatter


def transposed(floats, blocks, filters, channels, spatial):
    kernel = np.reshape(floats, (blocks, filters, channels, spatial))
    return np.ascontiguousarray(kernel.transpose(0, 3, 2, 1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("header", [HEADER, HEADER[:16]], ids=["wide", "narrow"])
@pytest.mark.parametrize("threads", [1, 3])
def test_scatter_is_a_transpose(weights, isa, dtype, header, threads):
    extents = [
        (1, 1, 77, 1),  # a vector
        (1, 32, 9, 9),  # a kernel in whole cache lines
        (1, 37, 5, 9),
        (1, 24, 1, 25),  # depthwise
        (1, 50, 33, 1),  # dense
        (6, 5, 3, 9),  # one kernel a position
        (1, 40, 300, 9),  # more than one task
    ]
    random = np.random.default_rng(0)
    runs = [
        random.standard_normal(np.prod(extents_of_run), np.float32) for extents_of_run in extents
    ]
    path = weights(np.concatenate(runs), header)
    offset, rows, arrays = len(header), [], []
    for (blocks, filters, channels, spatial), run in zip(extents, runs, strict=True):
        rows.append(row(offset, filters, channels, spatial, blocks=blocks))
        arrays.append(np.zeros((blocks, spatial, channels, filters), DTYPES[dtype]))
        offset += run.nbytes
    mapped, used, checking, writing = _core.scatter(
        path, header, offset, plan(*rows), arrays, cast=dtype != "float32", threads=threads
    )
    assert mapped in (0, 1)
    assert 1 <= used <= threads
    assert checking > 0
    assert writing > 0
    for extents_of_run, run, array in zip(extents, runs, arrays, strict=True):
        # NumPy and ml_dtypes round to nearest even, too.
        np.testing.assert_array_equal(array, transposed(run, *extents_of_run).astype(DTYPES[dtype]))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_numbers_are_rounded_as_numpy_rounds_them(weights, isa, dtype):
    # All exponents, and in each the mantissas next to what ends a float16 or a bfloat16.
    ends = np.array([0, 1, 0xFFF, 0x1000, 0x1001, 0x1FFF, 0x2000, 0x3000, 0x7FFF, 0x8000, 0x8001])
    mantissas = np.unique(np.concatenate([ends, ends + 0x10000, 0x7FFFFF - ends, ends << 7]))
    numbers = np.arange(512)[:, None] << 23 | mantissas & 0x7FFFFF
    floats = numbers.astype(np.uint32).reshape(-1).view(np.float32)
    floats = np.resize(floats, -(-len(floats) // 128) * 128)
    out = np.zeros((1, 1, len(floats) // 16, 16), DTYPES[dtype])
    _core.scatter(
        weights(floats),
        HEADER,
        -1,
        plan(row(20, 16, len(floats) // 16)),
        [out],
        cast=True,
        verify=False,
    )
    rounded = out[0, 0].T.reshape(-1)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        expected = floats.astype(DTYPES[dtype])
    numeric = ~np.isnan(floats)
    np.testing.assert_array_equal(
        rounded[numeric].view(np.uint16), expected[numeric].view(np.uint16)
    )
    assert np.isnan(rounded[~numeric].astype(np.float32)).all()


def test_float32_is_moved_bit_by_bit(weights, isa):
    # Subnormal numbers, quiet and signalling NaNs with payloads.
    patterns = np.arange(16 * 90, dtype=np.uint32) * 0x2F1357 | np.uint32(1)
    patterns[::3] |= np.uint32(0x7F800000)
    patterns[1::3] &= np.uint32(0x807FFFFF)
    out = np.zeros((1, 9, 10, 16), np.float32)
    path = weights([])
    path.write_bytes(HEADER + patterns.tobytes())
    _core.scatter(path, HEADER, -1, plan(row(20, 16, 10, 9)), [out], verify=False)
    expected = patterns.reshape(16, 10, 9).transpose(2, 1, 0)
    np.testing.assert_array_equal(out[0].view(np.uint32), expected)


@pytest.mark.parametrize(("blocks", "filters"), [(1, 37), (1, 96), (3, 32), (37, 1), (5, 7)])
def test_a_batch_normalization_is_folded_in(blocks, filters, weights, isa):
    random = np.random.default_rng(0)
    block, filters, channels, spatial = filters, blocks * filters, 5, 9
    beta, gamma, mean = random.standard_normal((3, filters)).astype(np.float32)
    variance = random.uniform(0.1, 2, filters).astype(np.float32)
    kernel = random.standard_normal((filters, channels, spatial)).astype(np.float32)
    path = weights(np.concatenate([x.ravel() for x in (beta, gamma, mean, variance, kernel)]))
    norm = 20 + 4 * filters
    rows = plan(
        row(20 + 16 * filters, block, channels, spatial, blocks=blocks, norm=norm),
        row(20, filters, shape=(blocks, block), role="bias", norm=norm),
    )
    arrays = [
        np.zeros((blocks, spatial, channels, block), np.float32),
        np.zeros((blocks, block), np.float32),
    ]
    _core.scatter(path, HEADER, path.stat().st_size, rows, arrays)
    scale = gamma.astype(np.float64) / np.sqrt(variance.astype(np.float64) + 1e-5)
    folded = transposed(kernel * scale[:, None, None], blocks, block, channels, spatial)
    np.testing.assert_allclose(arrays[0], folded, rtol=2e-7)
    np.testing.assert_allclose(arrays[1].reshape(-1), beta - mean * scale, rtol=2e-7, atol=1e-7)


FLOATS = [-1, 2, 3, 4, 5, 6]
KERNEL = row(20, 2, 3, shape=(3, 2))
NUMBERS = {
    "segment": 1,
    "axis": -1,
    "role": None,
    "offset": 0,
    "end": 0,
    "expected": 0,
    "found": 0,
}


@pytest.mark.parametrize(
    ("rows", "array", "expected_bytes", "code", "numbers"),
    [
        pytest.param(
            row(20, 2, 4, shape=(4, 2)),
            np.zeros((4, 2), np.float32),
            -1,
            "file_too_short",
            {"role": "kernel", "offset": 20, "end": 52, "expected": 52, "found": 44},
            id="too short",
        ),
        pytest.param(
            KERNEL,
            np.zeros((3, 2), np.float32),
            40,
            "wrong_size",
            {"segment": -1, "expected": 40, "found": 44},
            id="too long",
        ),
        pytest.param(
            row(16, 2, 3, shape=(3, 2)),
            np.zeros((3, 2), np.float32),
            -1,
            "bad_segment",
            {"expected": 6, "found": 1},
            id="inside the header",
        ),
        pytest.param(
            row(20, 2, 3, shape=(3, 3)),
            np.zeros((3, 3), np.float32),
            -1,
            "bad_segment",
            {"expected": 6, "found": 9},
            id="another count",
        ),
        pytest.param(
            KERNEL,
            np.zeros((1, 3, 2), np.float32),
            -1,
            "wrong_rank",
            {"expected": 2, "found": 3},
            id="rank",
        ),
        pytest.param(
            KERNEL,
            np.zeros((3, 3), np.float32),
            -1,
            "wrong_shape",
            {"axis": 1, "expected": 2, "found": 3},
            id="shape",
        ),
        pytest.param(
            KERNEL,
            np.zeros((3, 2), np.float16),
            -1,
            "wrong_dtype",
            {"expected": 0, "found": 1},
            id="float16",
        ),
        pytest.param(
            KERNEL,
            np.zeros((3, 2), ml_dtypes.bfloat16),
            -1,
            "wrong_dtype",
            {"expected": 0, "found": 2},
            id="bfloat16",
        ),
        pytest.param(
            KERNEL,
            np.zeros((3, 2), np.int32),
            -1,
            "wrong_dtype",
            {"expected": 0, "found": 3},
            id="int32",
        ),
        pytest.param(
            KERNEL,
            np.zeros((3, 2), ">f4"),
            -1,
            "wrong_dtype",
            {"expected": 0, "found": 3},
            id="big endian",
        ),
        pytest.param(
            row(20, 1, 6, shape=(6,), role="moving_variance"),
            np.zeros(6, np.float32),
            -1,
            "negative_variance",
            {"role": "moving_variance", "offset": 20, "end": 24, "found": 1},
            id="negative variance",
        ),
    ],
)
def test_failed_check_has_its_numbers(weights, rows, array, expected_bytes, code, numbers):
    fine = np.zeros(6, np.float32)
    fine_row = row(20, 1, 6, shape=(6,))
    facts = failure(
        _core.scatter,
        weights(FLOATS),
        HEADER,
        expected_bytes,
        plan(fine_row, rows),
        [fine, array],
    )
    assert facts == {"code": code, **NUMBERS, **numbers}
    # The content is checked while it is written, everything else before.
    if code != "negative_variance":
        assert not fine.any()
        assert not array.any()


def test_verify_can_be_switched_off(weights):
    out = np.zeros(6, np.float32)
    rows = plan(row(20, 1, 6, shape=(6,), role="moving_variance"))
    _core.scatter(weights(FLOATS), HEADER, 44, rows, [out], verify=False)
    np.testing.assert_array_equal(out, FLOATS)


@pytest.mark.parametrize("value", [-0.0, 0.0, 1e-45, -1e-45, -7e-44, -1.17e-38, 9e29])
def test_a_variance_may_be_zero(weights, value):
    out = np.ones(1, np.float32)
    rows = plan(row(20, 1, shape=(1,), role="moving_variance"))
    _core.scatter(weights([value]), HEADER, 24, rows, [out])
    assert out.tobytes() == np.float32(value).tobytes()


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (-1.18e-38, "negative_variance"),
        (-1.0, "negative_variance"),
        (-9e29, "negative_variance"),
        (np.inf, "nonfinite"),
        (-np.inf, "nonfinite"),
        (np.nan, "nonfinite"),
        (-np.nan, "nonfinite"),
    ],
)
def test_variance_that_no_network_has_is_refused(weights, value, code):
    path = weights([1, 1, value, 1])
    rows = plan(row(20, 1, 4, shape=(4,), role="moving_variance"))
    facts = failure(_core.scatter, path, HEADER, -1, rows, [np.zeros(4, np.float32)])
    assert (facts["code"], facts["offset"], facts["end"]) == (code, 28, 32)


@pytest.mark.parametrize(
    "header", [HEADER[:12] + b"\1" + HEADER[13:], b"", HEADER + b"\1", HEADER[:16] + b"\1\0\0\0"]
)
def test_a_file_with_another_header_than_was_read_has_changed(weights, header):
    rows = plan(row(24, 1, 2, shape=(2,)))
    out = np.zeros(2, np.float32)
    if header == b"":  # nothing asked for, nothing to compare
        _core.scatter(weights([1, 2, 3]), header, -1, rows, [out])
        np.testing.assert_array_equal(out, [2, 3])
        return
    facts = failure(_core.scatter, weights([1, 2, 3]), header, -1, rows, [out])
    assert facts["code"] == "changed"

    assert not out.any()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 3), np.float32).T,
        np.zeros((3, 4), np.float32)[:, ::2],
        np.zeros(25, np.uint8)[1:].view(np.float32).reshape(3, 2),
        np.frombuffer(bytes(24), np.float32).reshape(3, 2),
    ],
    ids=["transposed", "strided", "unaligned", "read-only"],
)
def test_array_that_is_not_plain_writable_memory_is_refused(weights, array):
    with refused(ValueError, hide="array is not writeable"):  # pybind11's words
        _core.scatter(weights(FLOATS), HEADER, -1, plan(KERNEL), [array])
    assert not array.any()


def test_a_plan_of_another_form_is_refused(weights):
    path, array = weights(FLOATS), np.zeros((3, 2), np.float32)
    with refused(ValueError):
        _core.scatter(path, HEADER, -1, plan(KERNEL)[:, :-1], [array])
    with refused(ValueError):
        _core.scatter(path, HEADER, -1, plan(KERNEL)[0], [array])
    with refused(ValueError):
        _core.scatter(path, HEADER, -1, plan(KERNEL), [])


def test_plans_of_random_numbers_never_reach_outside(weights):
    path = weights(range(40))
    random = np.random.default_rng(0)
    edges = np.array([-1, 0, 1, 2, 3, 20, 2**31, 2**32, 2**62, -(2**63), 2**63 - 1])
    memory = np.zeros(64, np.float32)
    accepted = 0
    for _ in range(3000):
        some = random.choice(edges, _core.PLAN_COLUMNS)
        some[:8] = np.where(random.random(8) < 0.6, [20, 0, 1, 2, 3, 1, 5, 1], some[:8])
        some[8] = random.choice([6, some[8]])
        shape = some[8 : 8 + max(0, min(5, some[7]))].tolist()
        fits = all(0 < extent <= 40 for extent in shape) and math.prod(shape) <= 40
        array = memory[: math.prod(shape)].reshape(shape) if fits else memory
        try:
            _core.scatter(path, HEADER, -1, some[None], [array])
            accepted += 1
        except _core.NativeError as error:
            assert error.code in _core.CODES  # noqa: PT017
    assert accepted > 10
    assert not memory[40:].any()


def test_codes_and_plan_columns_are_those_of_the_layout():
    assert _core.CODES[0] == "ok"
    assert len(set(_core.CODES)) == len(_core.CODES) == 15
    empty = layout.Plan((), 0, None)
    assert empty.rows(20).shape == (0, _core.PLAN_COLUMNS)


def test_names_that_python_reads_match_the_core():
    assert list(plans.Fields._fields) == _core.PLAN_FIELDS
    assert list(write.Result._fields) == _core.RESULT_FIELDS
    assert list(decoding.HeadFields._fields) == _core.HEAD_FIELDS
    assert list(get_args(decoding.Order)) == _core.ORDERS
    assert list(NMS_KINDS) == _core.SUPPRESSION_KINDS
    assert {name for name in SECTIONS if SECTIONS[name].ends_graph} == set(_core.HEAD_KINDS)
    assert list(Role) == _core.ROLES
    assert [role.number for role in Role] == list(range(len(_core.ROLES)))
    assert set(_core.FILE_CODES) == {"ok", "system", "not_regular", "changed"}
    assert np.float32(statistics.HUGE) == np.float32(1e30)


@pytest.mark.parametrize("threads", [-5, 0, 1, 2, 1000000])
def test_any_thread_count_works(weights, threads):
    path, array = weights(FLOATS), np.zeros((3, 2), np.float32)
    _, used, _, _ = _core.scatter(path, HEADER, -1, plan(KERNEL), [array], threads=threads)
    assert used == 1  # one task
    np.testing.assert_array_equal(array, np.reshape(FLOATS, (2, 3)).T)
    offsets = np.full(300, 20, np.int64)
    scanned = _core.scan(path, offsets, np.full(300, 6), threads=min(threads, 50))
    assert (scanned["count"] == 6).all()
    memory = np.zeros(44, np.uint8)
    _core.copy_file(path, memory, threads)
    assert memory.tobytes() == path.read_bytes()


def test_other_threads_run_while_a_file_is_scattered(weights):
    path = weights(np.ones(4_000_000))
    counted, stop = [0], threading.Event()

    def count():
        while not stop.is_set():
            counted[0] += 1

    array = np.zeros((1, 9, 444_444 // 4, 4), np.float32)
    thread = threading.Thread(target=count)
    thread.start()
    seen = []
    for _ in range(5):
        before = counted[0]
        _core.scatter(path, HEADER, -1, plan(row(20, 4, 444_444 // 4, 9)), [array])
        seen.append(counted[0] - before)
    stop.set()
    thread.join()
    assert max(seen) > 0
    assert (array == 1).all()


# scan


def numpy_stats(floats):
    floats = np.asarray(floats, np.float32)
    finite = floats[np.isfinite(floats)].astype(np.float64)
    return {
        "count": len(floats),
        "nonfinite": len(floats) - len(finite),
        "negative": int((floats < 0).sum()),
        "zero": int((floats == 0).sum()),
        "minimum": finite.min() if len(finite) else None,
        "maximum": finite.max() if len(finite) else None,
        "sum": finite.sum(),
        "sum_of_squares": (finite**2).sum(),
    }


@pytest.mark.parametrize("threads", [1, 4])
def test_scan_counts_as_numpy_does(weights, threads):
    random = np.random.default_rng(0)
    floats = random.standard_normal(300_000).astype(np.float32)
    floats[random.integers(0, 300_000, 2000)] = 0
    floats[random.integers(0, 200_000, 500)] = np.nan
    floats[random.integers(0, 200_000, 500)] = np.inf
    floats[100_000:100_010] = -np.inf
    path = weights(floats)
    # Overlapping runs, one with numbers that are not finite only, one alone, an empty one.
    runs = [(0, 300_000), (1, 77), (100_000, 10), (100_005, 150_000), (299_999, 1), (7, 0)]
    offsets, counts = (np.array(column, np.int64) for column in zip(*runs, strict=True))
    scanned = _core.scan(path, 20 + 4 * offsets, counts, threads=threads)
    for index, (start, count) in enumerate(runs):
        expected = numpy_stats(floats[start : start + count])
        for name in ("count", "nonfinite", "negative", "zero"):
            assert scanned[name][index] == expected[name], name
        for name in ("minimum", "maximum"):
            if expected[name] is not None:
                assert scanned[name][index] == expected[name], name
        for name in ("sum", "sum_of_squares"):
            np.testing.assert_allclose(scanned[name][index], expected[name], rtol=1e-9, atol=1e-9)


def test_scan_stops_at_the_end_of_the_file(weights):
    path = weights([1, 2, 3])
    offsets = np.array([24, 31, 32, 2**62, 2**63 - 1, 0])
    scanned = _core.scan(path, offsets, np.full(6, 2**62))
    assert scanned["count"].tolist() == [2, 0, 0, 0, 0, 8]
    assert scanned["sum"][0] == 5


def test_scan_refuses_bad_offsets_and_counts(weights):
    path = weights([1])
    for offsets, counts in (([-1], [1]), ([20], [-1]), ([20, 20], [1]), ([[20]], [[1]])):
        with refused(ValueError):
            _core.scan(path, np.array(offsets), np.array(counts))


# copy_file


@pytest.mark.parametrize("size", [0, 1, 44, 2**20, 2**20 + 1, 3 * 2**20 - 1])
def test_copy_file_copies_all_of_it(tmp_path, size):
    path = tmp_path / "a"
    path.write_bytes(np.random.default_rng(0).bytes(size))
    memory = np.zeros(size, np.uint8)
    assert isinstance(_core.copy_file(path, memory, 3), bool)
    assert memory.tobytes() == path.read_bytes()


def test_copy_file_wants_bytes_of_the_right_size(weights):
    path = weights(FLOATS)
    for size in (43, 45, 0):
        with refused(ValueError):
            _core.copy_file(path, np.zeros(size, np.uint8))
    # Of these it would fill a copy.
    for memory in (np.zeros(11, np.float32), np.zeros(88, np.uint8)[::2]):
        with pytest.raises(TypeError):
            _core.copy_file(path, memory)
