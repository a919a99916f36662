"""Diagnoses of every way in which a file and a network do not match: cause, place and fix."""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support import diagnosis_cases, helpers, weights_files
from support.cfgs import conv, maxpool, net, normalized, yolo
from support.diagnosis_cases import has_fields
from support.messages import refused, said
from yolotf import diagnosis, errors
from yolotf.darknet import cfg
from yolotf.darknet import stock as networks
from yolotf.diagnosis.layer_table import Divergence
from yolotf.weights import catalog as _known
from yolotf.weights import catalog_build, layout, statistics

SMALL = "\n" + "\n".join(
    [
        net(32),
        normalized(8, 3),
        maxpool(2),
        normalized(16),
        normalized(12, 3),
        conv(21),
        yolo(2, "4,4, 8,8, 16,16"),
    ]
)


def trained(network: cfg.Network, seed: int = 1) -> bytes:
    """The file of a network with numbers of the kind that training leaves."""
    rng = np.random.default_rng(seed)
    floats = []
    for segment in layout.segments(network):
        count = segment.count
        values = {
            "beta": lambda size: rng.normal(0.1, 0.6, size),
            "bias": lambda size: rng.normal(-0.5, 0.8, size),
            "gamma": lambda size: rng.lognormal(0.2, 0.2, size),
            "moving_mean": lambda size: rng.normal(-0.3, 1.0, size),
            "moving_variance": lambda size: rng.lognormal(0.5, 0.6, size),
            "kernel": lambda size: np.float32(0.08) * rng.standard_normal(size, dtype=np.float32),
        }[segment.role](count)
        floats.append(values)
    return weights_files.content(*floats)


@pytest.fixture(scope="module")
def small() -> cfg.Network:
    """A detector of 2 classes, whose file has about 10 KB."""
    return cfg.parse_text(SMALL, source="small.cfg")


@pytest.fixture
def file(tmp_path: Path) -> Callable[[bytes], Path]:
    """Writes bytes to a file and returns its path."""

    def write(content: bytes) -> Path:
        path = tmp_path / "file.weights"
        path.write_bytes(content)
        return path

    return write


def kinds(result: diagnosis.Diagnosis) -> list[str]:
    return [cause["kind"] for cause in result.causes]


def test_diagnosis_imports_neither_tensorflow_nor_keras() -> None:
    code = (
        "import sys, yolotf.diagnosis.render\n"
        "yolotf.diagnosis.diagnose(sys.argv[1], 'yolov4-tiny')\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('tensorflow', 'keras')])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, __file__], capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"


# Problems that users reported.


@pytest.mark.parametrize(
    "report", helpers.shared_params(diagnosis_cases.reports, lambda report: report["id"])
)
def test_users_reports_have_their_causes_and_no_others(
    report: dict[str, Any], tmp_path: Path
) -> None:
    path = diagnosis_cases.write_report_file(report["file"], tmp_path / "file.weights")
    result = diagnosis.diagnose(path, diagnosis_cases.report_network(report["model"]))
    assert len(result.causes) == len(report["expect"]), result.causes
    for expected in report["expect"]:
        assert any(has_fields(cause, expected) for cause in result.causes), result.causes
    assert result.ok == (not report["expect"])


BAD = {
    "hdf5_keras_chun-ming-Lin": ("not_weights", {"detected": "hdf5"}),
    "html_github404_filmi7873": ("not_weights", {"detected": "html"}),
    "lfs_pointer_to_small_minseokheo": (
        "not_weights",
        {"detected": "git_lfs_pointer", "pointer_bytes": 16505},
    ),
    "symlink_relative_nikela": ("not_weights", {"detected": "text"}),
    "text_chinese_fengmm521": ("not_weights", {"detected": "text"}),
    "text_drive_link_TimothyAv": ("not_weights", {"detected": "text"}),
    "text_fake_Akshita": ("not_weights", {"detected": "text"}),
    "text_note_mdmazharulislam": ("not_weights", {"detected": "text"}),
    "truncated_24576_465583030": ("truncated", {"at": 24576, "expected": 248007048, "layer": 1}),
    "truncated_layer_aligned_throughheaven": ("partial_backbone", {"layers": 5}),
    "truncated_v2_376525_ayuguchi": (
        "truncated",
        {"at": 376525, "expected": 203934260, "layer": 5},
    ),
    "utf8_mangled_short_AmrSherif7": ("damaged", {"detected": "cp1252_to_utf8"}),
    "utf8_replacement_tatarikk": ("damaged", {"detected": "utf8_replacement"}),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_recognised(name: str, shared: Path) -> None:
    path = shared / "corpus/bad" / f"{name}.weights"
    beside = path.with_suffix(".cfg")
    result = diagnosis.diagnose(path, beside if beside.exists() else "yolov3")
    kind, facts = BAD[name]
    assert kinds(result) == [kind]
    assert has_fields(result.causes[0], facts), result.causes
    assert result.causes[0]["fix"]
    assert result.exit_code == 1


def test_every_bad_file_is_tested(shared: Path) -> None:
    assert {path.stem for path in (shared / "corpus/bad").glob("*.weights")} == set(BAD)


def test_real_backbone_file_is_recognised_by_its_layers(shared: Path) -> None:
    path = shared / "corpus/partial/Lebhoryi__yolo-fastest.conv.109"
    result = diagnosis.diagnose(path, Path(f"{path}.cfg"))
    assert kinds(result) == ["partial_backbone"]
    # Layers 107 and 108 store nothing, so the file's name decides.
    assert result.causes[0]["layers"] == 109
    assert result.first_divergence is not None
    assert result.first_divergence.layer == 109


def trained_by_users() -> list[dict[str, Any]]:
    rows = helpers.shared_json("corpus/lfs/lfs.json")
    unique = {(row["cfg_file"], row["lfs_size"]): row for row in rows if row["cfg_file"]}
    return list(unique.values())


@pytest.mark.parametrize(
    "row", helpers.shared_params(trained_by_users, lambda row: Path(row["cfg_file"]).stem)
)
def test_users_files_match_their_cfg_and_show_their_class_count(
    row: dict[str, Any], tmp_path: Path
) -> None:
    header = weights_files.HEADER if row["header_bytes"] == 20 else weights_files.NARROW
    path = weights_files.write_zeros(tmp_path / "f.weights", row["lfs_size"], header)
    network = cfg.parse_cfg(helpers.SHARED / "corpus/lfs" / row["cfg_file"])
    assert diagnosis.diagnose(path, network).ok
    classes = row["cfg_classes"][0]
    stock = [cfg.parse_cfg(helpers.SHARED / names[0]) for names in row["stock"]]
    for other in [network, *stock]:
        if len(other.heads) != len(network.heads) or other.heads[0].coords != 4:
            continue  # another architecture that happens to have this size
        eighty = other.with_classes(80)
        result = diagnosis.diagnose(path, eighty)
        if classes == 80:
            assert result.ok
        else:
            assert kinds(result) == ["class_count"], (other.source, result.causes)
            assert (result.causes[0].file, result.causes[0].model) == (classes, 80)


# The table of known networks.


def test_catalog_has_the_sizes_that_cfgs_compute_to(shared: Path) -> None:
    text = (Path(_known.__file__).parent / "known_networks.json").read_text("utf-8")
    assert text == catalog_build.dump(
        catalog_build.build(catalog_build.read_folder(shared / "cfg"))
    )


def test_catalog_has_every_stock_cfg(shared: Path) -> None:
    known = {name for architecture in _known.table() for name in architecture.names}
    assert known >= {path.stem for path in (shared / "cfg").glob("*.cfg")}


# Sizes as published, in bytes; not from the table's own source.
PUBLISHED = {
    ("yolov4", None): 257717640,
    ("yolov4-tiny", None): 24251276,
    ("yolov3", None): 248007048,
    ("yolov3-tiny", None): 35434956,
    ("yolov3-spp", None): 252209544,
    ("yolov2", None): 203934264,
    ("yolov4", 137): 170038676,
    ("yolov4-tiny", 29): 19789716,
    ("darknet53", 74): 162482580,
}


@pytest.mark.parametrize(("name", "layers"), PUBLISHED)
def test_published_files_are_known_by_their_size(name: str, layers: int | None) -> None:
    floats = (PUBLISHED[name, layers] - 20) // 4
    matches = _known.solve(floats)
    assert any(
        name in match.architecture.names and match.layers == layers and match.channels == 3
        for match in matches
    )
    if layers is None:
        assert matches[0].name == name
        assert matches[0].classes == 80


@pytest.mark.parametrize("name", ["yolov4", "yolov4-tiny", "yolov3-spp", "yolov7"])
@pytest.mark.parametrize(("classes", "channels"), [(1, 3), (7, 1), (80, 4), (365, 3)])
def test_catalog_solves_for_classes_and_channels(name: str, classes: int, channels: int) -> None:
    network = networks.network(name, classes=classes, channels=channels)
    matches = _known.solve(layout.floats(network))
    assert (name, classes, channels) in [
        (other, match.classes, match.channels)
        for match in matches
        for other in match.architecture.names
    ]


@pytest.mark.parametrize("network", helpers.cfg_params(helpers.stock_cfgs))
def test_catalog_gives_every_layer_its_floats(network: Path) -> None:
    parsed = cfg.parse_cfg(network)
    architecture = next(k for k in _known.table() if network.stem in k.names)
    if parsed.classes is not None and architecture.heads:
        parsed = parsed.with_classes(3)
    channels = parsed.input_shape.channels
    wanted: dict[int, int] = {}
    for segment in layout.segments(parsed):
        wanted[segment.layer] = wanted.get(segment.layer, 0) + segment.count
    rows = architecture.at(3 if architecture.heads else None, channels)
    assert {row.layer: row.floats for row in rows} == wanted


# What the bytes are.


def test_an_empty_file_is_empty(file: Callable[[bytes], Path], small: cfg.Network) -> None:
    result = diagnosis.diagnose(file(b""), small)
    assert has_fields(result.causes[0], {"kind": "not_weights", "detected": "empty"})


@pytest.mark.parametrize(
    ("start", "detected"),
    [
        (b"PK\3\4" + bytes(100), "zip"),
        (b"\x1f\x8b\x08" + bytes(100), "gzip"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + bytes(100), "pickle"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "hdf5"),
        (b"\n\n<HTML><body>404</body></HTML>", "html"),
        (b"<!DOCTYPE HTML PUBLIC>", "html"),
        (b"[net]\nwidth=416\n", "text"),
        ("重量".encode(), "text"),
        (bytes(100) + bytes.fromhex("57fb808b247547db"), "tensorflow_checkpoint"),
        (b'model_checkpoint_path: "ckpt-1"\n', "tensorflow_checkpoint"),
        (b"\x93NUMPY\1\0v\0" + bytes(100), "binary"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "binary"),
        (b"\xde\xad\xbe\xef" * 300, "binary"),
    ],
)
def test_other_kinds_of_file_are_recognised(
    start: bytes, detected: str, file: Callable[[bytes], Path], small: cfg.Network
) -> None:
    result = diagnosis.diagnose(file(start), small)
    assert kinds(result) == ["not_weights"]
    assert result.causes[0]["detected"] == detected
    assert result.exit_code == 1


def test_a_checkpoint_is_known_by_its_name(tmp_path: Path, small: cfg.Network) -> None:
    path = tmp_path / "model.ckpt.data-00000-of-00001"
    path.write_bytes(np.ones(1000, np.float32).tobytes())
    assert diagnosis.diagnose(path, small).causes[0]["detected"] == "tensorflow_checkpoint"


def test_lfs_pointer_shows_the_network_of_its_file(file: Callable[[bytes], Path]) -> None:
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 256015980\n"
    cause = diagnosis.diagnose(file(text.encode()), "yolov4").causes[0]
    assert cause["points_to"] == {"architecture": "yolov4", "classes": 1}
    assert cause["pointer_bytes"] == 256015980
    said(cause["fix"])


# Files that cannot be read.


def test_a_missing_file_cannot_be_read(tmp_path: Path, small: cfg.Network) -> None:
    result = diagnosis.diagnose(tmp_path / "none.weights", small)
    assert (result.readable, result.ok, result.exit_code) == (False, False, 2)
    assert has_fields(result.causes[0], {"kind": "not_weights", "detected": "missing"})


def test_a_directory_cannot_be_read(tmp_path: Path, small: cfg.Network) -> None:
    result = diagnosis.diagnose(tmp_path, small)
    assert result.exit_code == 2
    assert result.causes[0]["detected"] == "directory"


def test_a_fifo_is_not_waited_for(tmp_path: Path, small: cfg.Network) -> None:
    os.mkfifo(tmp_path / "pipe")
    started = time.perf_counter()
    result = diagnosis.diagnose(tmp_path / "pipe", small)
    assert time.perf_counter() - started < 5
    assert result.exit_code == 2
    assert result.causes[0]["detected"] == "special_file"


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/null"])
def test_a_device_is_not_read(name: str, small: cfg.Network) -> None:
    assert diagnosis.diagnose(name, small).causes[0]["detected"] == "special_file"


def test_unreadable_file_has_the_systems_reason(
    file: Callable[[bytes], Path], small: cfg.Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = file(trained(small))
    # The superuser may read everything, so the refusal is simulated.
    opened = os.open

    def refuse(name: Any, *arguments: Any, **options: Any) -> int:
        if os.fspath(name) == str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return opened(name, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    result = diagnosis.diagnose(path, small)
    assert result.exit_code == 2
    assert result.causes[0]["detected"] == "unreadable"
    said(result.causes[0]["message"])


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000])
def test_impossible_names_are_unreadable(name: str, small: cfg.Network) -> None:
    assert diagnosis.diagnose(name, small).exit_code == 2


def test_a_loop_of_links_is_unreadable(tmp_path: Path, small: cfg.Network) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert diagnosis.diagnose(tmp_path / "loop", small).causes[0]["detected"] == "unreadable"


def test_file_truncated_during_the_diagnosis_gives_an_answer(
    file: Callable[[bytes], Path], small: cfg.Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = file(trained(small))

    def fail(*_: Any) -> Any:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(statistics, "scan", fail)
    result = diagnosis.diagnose(path, small)
    assert result.exit_code == 2
    said(result.causes[0]["message"])


def test_ten_gigabytes_of_zeros_are_diagnosed_quickly(tmp_path: Path) -> None:
    path = weights_files.write_zeros(tmp_path / "zeros.weights", 10 * 2**30)
    started = time.perf_counter()
    result = diagnosis.diagnose(path, "yolov4")
    assert time.perf_counter() - started < 5
    assert kinds(result) == ["trailing"]
    assert result.causes[0]["bytes"] == 10 * 2**30 - 257717640


# Prefixes and noise.


def expected_of_prefix(size: int, ends: dict[int, int]) -> str:
    if size == 0:
        return "not_weights"
    return "partial_backbone" if size in ends else "truncated"


def layer_ends(network: cfg.Network) -> dict[int, int]:
    """For every file size at which a layer ends: how many layers have ended."""
    return {20 + s.end: s.layer + 1 for s in layout.segments(network) if s.role == "kernel"}


@pytest.mark.slow
def test_every_prefix_of_a_small_file_is_recognised(tmp_path: Path, small: cfg.Network) -> None:
    whole = trained(small)
    ends = layer_ends(small)
    path = tmp_path / "prefix.weights"
    for size in [*range(320), *range(320, len(whole), 41), *ends, len(whole) - 1]:
        if size == len(whole):
            continue
        path.write_bytes(whole[:size])
        result = diagnosis.diagnose(path, small)
        assert kinds(result) == [expected_of_prefix(size, ends)], (size, result.causes)
        if size in ends:
            assert result.causes[0]["layers"] == ends[size]
        elif size:
            assert result.causes[0]["at"] == size
            assert result.causes[0]["expected"] == len(whole)
    path.write_bytes(whole)
    assert diagnosis.diagnose(path, small).ok


def test_prefixes_of_a_real_file_are_recognised(shared: Path, tmp_path: Path) -> None:
    source = shared / "corpus/pairs/Lebhoryi__yolo-s_with_relu_last.weights"
    network, whole = cfg.parse_cfg(source.with_suffix(".cfg")), source.read_bytes()
    ends = layer_ends(network)
    path = tmp_path / "prefix.weights"
    sizes = [*range(0, 64, 3), *range(64, len(whole), 4999), *itertools.islice(ends, 0, None, 4)]
    for size in sizes:
        if size == len(whole):
            continue
        path.write_bytes(whole[:size])
        result = diagnosis.diagnose(path, network)
        assert kinds(result) == [expected_of_prefix(size, ends)], (size, result.causes)


@pytest.mark.slow
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=st.binary(max_size=3000), good_header=st.booleans())
def test_any_bytes_get_an_answer(
    content: bytes, good_header: bool, tmp_path: Path, small: cfg.Network
) -> None:
    path = tmp_path / "any.weights"
    path.write_bytes(weights_files.HEADER + content if good_header else content)
    result = diagnosis.diagnose(path, small)
    assert not result.ok
    assert result.exit_code == 1
    json.dumps(result.to_dict(), allow_nan=False)
    assert str(result)


@pytest.mark.parametrize("seed", range(5))
def test_noise_of_the_right_size_does_not_match(
    seed: int, file: Callable[[bytes], Path], small: cfg.Network
) -> None:
    noise = np.random.default_rng(seed).bytes(len(trained(small)) - 20)
    result = diagnosis.diagnose(file(weights_files.HEADER + noise), small)
    assert not result.ok
    assert set(kinds(result)) <= {"damaged", "unknown", "layer_shape"}


@pytest.mark.parametrize("more", [1, 2, 3, 4, 100, 4000])
def test_bytes_after_the_end_are_counted(
    more: int, file: Callable[[bytes], Path], small: cfg.Network
) -> None:
    result = diagnosis.diagnose(
        file(trained(small) + np.linspace(-1, 1, 1000, dtype=np.float32).tobytes()[:more]), small
    )
    assert kinds(result) == ["trailing"]
    assert result.causes[0]["bytes"] == more


# Headers.


def as_header_of(content: bytes, header_bytes: int, minor: int) -> bytes:
    """The same floats behind a header of another width and version."""
    header = weights_files.header(version=(0, minor, 0), seen_bytes=header_bytes - 12)
    return header + content[20:]


@pytest.mark.parametrize(("header_bytes", "minor"), [(16, 1), (20, 2)])
def test_both_header_widths_are_read_without_a_warning(
    header_bytes: int, minor: int, file: Callable[[bytes], Path], small: cfg.Network
) -> None:
    path = file(as_header_of(trained(small), header_bytes, minor))
    result = diagnosis.diagnose(path, small)
    assert result.ok
    assert not result.warnings
    assert result.header is not None
    assert result.header.size_bytes == header_bytes


@pytest.mark.parametrize(("header_bytes", "minor"), [(16, 2), (20, 1)])
def test_header_width_that_contradicts_its_version_is_a_warning(
    header_bytes: int, minor: int, file: Callable[[bytes], Path], small: cfg.Network
) -> None:
    path = file(as_header_of(trained(small), header_bytes, minor))
    result = diagnosis.diagnose(path, small)
    assert result.ok
    (warning,) = result.warnings
    assert (warning.kind, warning.file, warning.expected) == (
        "header_width",
        header_bytes,
        36 - header_bytes,
    )


def test_wrong_header_width_does_not_hide_the_class_count(
    file: Callable[[bytes], Path], small: cfg.Network
) -> None:
    path = file(as_header_of(trained(small.with_classes(5)), 16, 2))
    result = diagnosis.diagnose(path, small)
    assert kinds(result) == ["class_count"]
    assert [warning["kind"] for warning in result.warnings] == ["header_width"]


def test_odd_versions_do_not_matter_where_the_floats_match(
    file: Callable[[bytes], Path], small: cfg.Network
) -> None:
    content = trained(small)
    path = file(b"\xff\xff\xff\x7f" * 3 + bytes(8) + content[20:])
    assert diagnosis.diagnose(path, small).ok


# What explains a size.


@pytest.mark.parametrize("classes", [1, 3, 9, 80])
def test_another_class_count_is_named_with_the_lines_to_change(
    classes: int, file: Callable[[bytes], Path], small: cfg.Network
) -> None:
    result = diagnosis.diagnose(file(trained(small.with_classes(classes))), small)
    assert kinds(result) == ["class_count"]
    cause = result.causes[0]
    assert (cause.file, cause.model) == (classes, 2)
    head = small.heads[0]
    assert f"small.cfg:{head.line_of('classes')}" in cause.fix
    assert f"filters={3 * (5 + classes)}" in cause.fix
    assert result.first_divergence == Divergence(
        4, "convolutional", small.layers[4].line, "bias", 20 + layout.segments(small)[-2].offset
    )


@pytest.mark.parametrize("channels", [1, 4])
def test_other_channels_are_named(
    channels: int, file: Callable[[bytes], Path], small: cfg.Network
) -> None:
    result = diagnosis.diagnose(file(trained(small.resized(channels=channels))), small)
    assert kinds(result) == ["channels"]
    assert (result.causes[0].file, result.causes[0].model) == (channels, 3)
    assert result.first_divergence is not None
    assert (result.first_divergence.layer, result.first_divergence.role) == (0, "kernel")


def test_two_causes_are_both_found(file: Callable[[bytes], Path], small: cfg.Network) -> None:
    other = small.with_classes(8).resized(channels=1)
    result = diagnosis.diagnose(file(trained(other)), small)
    assert sorted(kinds(result)) == ["channels", "class_count"]


def test_uneven_masks_are_found(tmp_path: Path) -> None:
    network = networks.network("yolov3-tiny", classes=6)
    sections = list(network.sections)
    for head, masks in zip(network.heads, ("2,3,4,5", "0,1"), strict=True):
        sections[head.index + 1] = head.section.with_option("mask", masks)
        before = network.layers[head.index - 1].section
        filters = 11 * len(masks.split(","))
        sections[head.index] = before.with_option("filters", filters)
    uneven = cfg.resolve(sections, source="uneven.cfg")
    path = weights_files.write_zeros(tmp_path / "f.weights", layout.size_bytes(uneven))
    result = diagnosis.diagnose(path, network)
    assert kinds(result) == ["head_filters"]
    assert (result.causes[0].file, result.causes[0].model) == ([44, 22], [33, 33])


def test_backbone_of_another_network_has_both_causes(tmp_path: Path) -> None:
    path = weights_files.write_zeros(tmp_path / "darknet53.conv.74", PUBLISHED["darknet53", 74])
    result = diagnosis.diagnose(path, "yolov4")
    assert kinds(result) == ["architecture", "partial_backbone"]
    assert result.causes[1]["layers"] == 74


def test_content_distinguishes_small_objects_from_other_classes(
    shared: Path, tmp_path: Path
) -> None:
    stock = cfg.parse_cfg(shared / "cfg/yolov4.cfg")
    file_network = diagnosis_cases.small_objects(stock.with_classes(4))
    path = tmp_path / "f.weights"
    path.write_bytes(trained(file_network))
    result = diagnosis.diagnose(path, stock)
    assert kinds(result) == ["class_count", "layer_shape"]
    assert (result.causes[0].file, result.causes[0].model) == (4, 80)
    assert result.causes[1].file_floats_minus_model == -16384
    route = next(
        layer for layer in stock.layers if isinstance(layer, cfg.Route) and layer.inputs == (54,)
    )
    assert result.causes[1].layer == route.index + 1
    assert f"yolov4.cfg:{route.line_of('layers')}" in result.causes[1].fix


def test_edit_of_a_known_network_is_found_with_its_fix(official_tiny: Any, shared: Path) -> None:
    network = cfg.parse_cfg(official_tiny.cfg)
    sections = list(network.sections)
    sections[13 + 1] = sections[13 + 1].with_option("size", 1)
    result = diagnosis.diagnose(official_tiny.weights, cfg.resolve(sections, source="mine.cfg"))
    assert kinds(result) == ["layer_shape"]
    cause = result.causes[0]
    assert (cause.layer, cause.section) == (13, "convolutional")
    assert cause.file_floats_minus_model == 64 * 64 * 8
    said(cause.fix)


# Damage.


def test_non_finite_number_is_damage(file: Callable[[bytes], Path], small: cfg.Network) -> None:
    content = bytearray(trained(small))
    for segment, value in zip(layout.segments(small)[4:9], [np.nan, np.inf] * 2, strict=False):
        start = 20 + segment.offset
        content[start : start + 4] = np.float32(value).tobytes()
    result = diagnosis.diagnose(file(bytes(content)), small)
    assert kinds(result) == ["damaged"]
    cause = result.causes[0]
    assert (cause.detected, cause.count, cause.layer, cause.role) == ("nan_or_inf", 4, 0, "kernel")
    assert cause.offset == 20 + layout.segments(small)[4].offset


def test_a_negative_variance_in_its_place_is_damage(
    file: Callable[[bytes], Path], small: cfg.Network
) -> None:
    content = bytearray(trained(small))
    segment = [s for s in layout.segments(small) if s.role == "moving_variance"][1]
    start = 20 + segment.offset + 8
    content[start : start + 4] = np.float32(-0.25).tobytes()
    result = diagnosis.diagnose(file(bytes(content)), small)
    assert kinds(result) == ["damaged"]
    cause = result.causes[0]
    assert (cause.detected, cause.count, cause.layer) == ("negative_variance", 1, segment.layer)
    assert result.first_divergence is not None
    assert result.first_divergence.role == "moving_variance"


def test_damage_is_named_beside_the_causes_of_the_size(
    file: Callable[[bytes], Path], small: cfg.Network
) -> None:
    content = bytearray(trained(small.with_classes(4)))
    content[700:704] = np.float32(np.nan).tobytes()
    result = diagnosis.diagnose(file(bytes(content)), small)
    assert kinds(result) == ["class_count", "damaged"]


TRANSLATIONS = {
    "lf_to_crlf": (lambda b: b.replace(b"\n", b"\r\n"), "newline_translation"),
    "crlf_to_lf": (lambda b: b.replace(b"\r\n", b"\n"), "newline_translation"),
    "cr_to_lf": (lambda b: b.replace(b"\r", b"\n"), "newline_translation"),
    "latin1_to_utf8": (lambda b: b.decode("latin-1").encode(), "cp1252_to_utf8"),
    "utf8_replacement": (lambda b: b.decode("utf-8", "replace").encode(), "utf8_replacement"),
}


@pytest.mark.parametrize("how", TRANSLATIONS)
def test_text_mode_damage_is_named(how: str, shared: Path, tmp_path: Path) -> None:
    source = shared / "corpus/pairs/Lebhoryi__yolo-fastest-xl__fd47e9.weights"
    translate, detected = TRANSLATIONS[how]
    path = tmp_path / "f.weights"
    path.write_bytes(translate(source.read_bytes()))
    result = diagnosis.diagnose(path, source.with_suffix(".cfg"))
    assert kinds(result) == ["damaged"]
    assert result.causes[0]["detected"] == detected


def test_numbers_too_large_for_their_sum_are_huge_and_finite(
    file: Callable[[bytes], Path], small: cfg.Network
) -> None:
    content = bytearray(trained(small))
    kernel = layout.segments(small)[4]
    start = 20 + kernel.offset
    content[start : start + 8] = np.full(2, 3.0e38, np.float32).tobytes()
    (cause,) = diagnosis.diagnose(file(bytes(content)), small).causes
    assert (cause["detected"], cause["count"]) == ("huge", 2)


# Content.


def real_pairs() -> list[tuple[Path, Path]]:
    return diagnosis_cases.pairs()


def blocks(network: cfg.Network) -> list[tuple[int, int, int, list[tuple[str, int]]]]:
    """For every layer: its index, first byte, end, and the arrays it stores."""
    stored = []
    for layer, group in itertools.groupby(layout.segments(network), key=lambda s: s.layer):
        segments = list(group)
        stored.append(
            (
                layer,
                20 + segments[0].offset,
                20 + segments[-1].end,
                [(s.role, s.count) for s in segments],
            )
        )
    return stored


each_pair = pytest.mark.parametrize(
    "pair", helpers.shared_params(real_pairs, lambda pair: pair[0].stem[:40])
)


@each_pair
def test_real_files_fit_their_own_cfg(pair: tuple[Path, Path]) -> None:
    weights, cfg_file = pair
    result = diagnosis.diagnose(weights, cfg_file)
    assert result.ok, result.causes
    assert result.first_divergence is None


@each_pair
def test_single_edits_are_located_in_real_files(pair: tuple[Path, Path]) -> None:
    weights, cfg_file = pair
    edits = diagnosis_cases.single_edits(cfg.parse_cfg(cfg_file), random.Random(7))
    sample = list(itertools.islice((edit for edit in edits if edit.seen), 20))
    located = [edit for edit in sample if _first_wrong(weights, edit.network) == edit.layer]
    assert len(located) >= 0.95 * len(sample), [
        edit.change for edit in sample if edit not in located
    ]


def _first_wrong(weights: Path, network: cfg.Network) -> int | None:
    divergence = diagnosis.diagnose(weights, network).first_divergence
    return divergence.layer if divergence else None


@each_pair
def test_swapped_layers_are_found(pair: tuple[Path, Path], tmp_path: Path) -> None:
    weights, cfg_file = pair
    network, content = cfg.parse_cfg(cfg_file), weights.read_bytes()
    stored = blocks(network)
    chosen = random.Random(3)
    path = tmp_path / "swapped.weights"
    right = tried = 0
    while tried < 5:
        first, second = sorted(chosen.sample(range(len(stored)), 2))
        if tried % 2:
            second = first + 1
        (layer, a, b, shape), (_, c, d, other) = stored[first], stored[second]
        if shape == other:
            continue
        tried += 1
        swapped = content[:a] + content[c:d] + content[b:c] + content[a:b] + content[d:]
        path.write_bytes(swapped)
        result = diagnosis.diagnose(path, network)
        assert kinds(result) in (["layer_shape"], ["unknown"])
        assert result.first_divergence is not None
        right += result.first_divergence.layer == layer
    assert right >= 4


@each_pair
def test_four_extra_bytes_at_the_start_are_found(
    pair: tuple[Path, Path], file: Callable[[bytes], Path]
) -> None:
    weights, cfg_file = pair
    content = weights.read_bytes()
    result = diagnosis.diagnose(file(content[:20] + bytes(4) + content[20:-4]), cfg_file)
    assert kinds(result) == ["layer_shape"]
    assert result.causes[0].file_floats_minus_model == 1
    assert result.first_divergence is not None
    assert result.first_divergence.layer == 0


@each_pair
def test_four_missing_bytes_are_found(
    pair: tuple[Path, Path], file: Callable[[bytes], Path]
) -> None:
    weights, cfg_file = pair
    content = weights.read_bytes()
    stored = blocks(cfg.parse_cfg(cfg_file))
    layer, start, end, shape = max(stored[: len(stored) // 2], key=lambda block: block[2])
    kernel = shape[-1][1]
    at = end - 4 * (kernel // 2)
    assert at > start
    result = diagnosis.diagnose(file(content[:at] + content[at + 4 :] + bytes(4)), cfg_file)
    assert kinds(result) == ["layer_shape"]
    assert result.causes[0].file_floats_minus_model == -1
    assert result.causes[0].layer == layer


def test_moved_layer_is_found(file: Callable[[bytes], Path], shared: Path) -> None:
    weights = shared / "corpus/pairs/yolo-fastest-1.1.weights"
    network, content = cfg.parse_cfg(weights.with_suffix(".cfg")), weights.read_bytes()
    stored = blocks(network)
    layer, a, b, _ = stored[20]
    end = stored[30][2]
    result = diagnosis.diagnose(
        file(content[:a] + content[b:end] + content[a:b] + content[end:]), network
    )
    assert kinds(result) == ["layer_shape"]
    assert result.causes[0].layers == [layer, stored[31][0]]
    assert result.first_divergence is not None
    assert result.first_divergence.layer == layer


def test_a_file_of_another_network_of_the_same_size_is_refused(
    official_tiny: Any, tmp_path: Path
) -> None:
    """Layers 4 and 5 of yolov4-tiny are alike; the layers before and after them are not."""
    network = cfg.parse_cfg(official_tiny.cfg)
    content = official_tiny.weights.read_bytes()
    stored = blocks(network)
    by_layer = {layer: (a, b) for layer, a, b, _ in stored}
    (a, b), (c, d) = by_layer[26], by_layer[27]
    path = tmp_path / "f.weights"
    path.write_bytes(content[:a] + content[c:d] + content[b:c] + content[a:b] + content[d:])
    result = diagnosis.diagnose(path, network)
    assert not result.ok
    assert result.first_divergence is not None
    assert result.first_divergence.layer == 26
    assert sorted(result.causes[0].layers) == [26, 27]


def fresh(network: cfg.Network) -> bytes:
    """The file of an untrained network: every mean, variance, gamma and beta has one value."""
    constants = {"gamma": 1.0, "moving_variance": 1.0, "kernel": 0.0}
    floats = [
        np.full(s.count, constants.get(s.role, 0.0), np.float32) for s in layout.segments(network)
    ]
    return weights_files.content(*floats)


@pytest.mark.slow
@pytest.mark.parametrize("make", [trained, fresh], ids=["trained", "fresh"])
@pytest.mark.parametrize("name", ["yolov4-tiny", "yolov3-tiny"])
def test_untrained_files_raise_no_false_alarm(
    name: str, make: Callable[[cfg.Network], bytes], file: Callable[[bytes], Path]
) -> None:
    network = networks.network(name, classes=2)
    assert diagnosis.diagnose(file(make(network)), network).ok


def test_network_without_batch_norm_is_unverified(
    file: Callable[[bytes], Path],
) -> None:
    plain = cfg.parse_text(SMALL.replace("batch_normalize=1\n", ""), source="plain.cfg")
    result = diagnosis.diagnose(file(trained(plain)), plain)
    assert result.ok
    assert [warning["kind"] for warning in result.warnings] == ["unverified"]


def test_file_of_zeros_is_unverified(tmp_path: Path, small: cfg.Network) -> None:
    path = weights_files.write_zeros(tmp_path / "f", layout.size_bytes(small))
    result = diagnosis.diagnose(path, small)
    assert result.ok
    assert [warning["kind"] for warning in result.warnings] == ["unverified"]


def test_lines_darknet_ignores_are_warnings(file: Callable[[bytes], Path]) -> None:
    network = cfg.parse_text(SMALL.replace("pad=1", "pad=1\nnonsense", 1), source="odd.cfg")
    result = diagnosis.diagnose(file(trained(network)), network)
    assert result.ok
    assert [warning["kind"] for warning in result.warnings] == ["cfg"]
    assert "nonsense" in result.warnings[0]["message"]


# The interface.


def test_the_dictionary_has_the_documented_keys(
    file: Callable[[bytes], Path], small: cfg.Network
) -> None:
    path = file(trained(small.with_classes(5)))
    answer = diagnosis.diagnose(path, small).to_dict()
    assert list(answer) == [
        "ok",
        "weights",
        "network",
        "matches",
        "causes",
        "warnings",
        "first_divergence",
    ]
    assert answer["weights"] == {
        "path": str(path),
        "size_bytes": path.stat().st_size,
        "header": {"major": 0, "minor": 2, "revision": 5, "seen": 0, "size_bytes": 20},
        "floats": (path.stat().st_size - 20) // 4,
    }
    assert answer["network"] == {
        "source": "small.cfg",
        "name": None,
        "classes": 2,
        "channels": 3,
        "size_bytes": layout.size_bytes(small),
        "floats": layout.floats(small),
    }
    assert set(answer["causes"][0]) == {"kind", "message", "fix", "file", "model"}
    assert set(answer["first_divergence"]) == {"layer", "section", "cfg_line", "role", "offset"}
    json.dumps(answer, allow_nan=False)


def test_matching_file_has_neither_causes_nor_divergence(
    file: Callable[[bytes], Path], small: cfg.Network
) -> None:
    answer = diagnosis.diagnose(file(trained(small)), small).to_dict()
    assert answer["ok"] is True
    assert answer["causes"] == answer["warnings"] == []
    assert answer["first_divergence"] is None


def test_matches_list_every_name_of_a_size(tmp_path: Path) -> None:
    path = weights_files.write_zeros(tmp_path / "f.weights", 257717640)
    answer = diagnosis.diagnose(path, "yolov4").to_dict()
    names = [match["architecture"] for match in answer["matches"]]
    assert names[0] == "yolov4"
    assert {"yolov4", "yolov4-custom", "cd53paspp-gamma"} <= set(names)
    assert answer["matches"][0] == {
        "architecture": "yolov4",
        "classes": 80,
        "channels": 3,
        "header_bytes": 20,
        "layers": None,
    }


def test_classes_changes_the_network_of_the_comparison(
    file: Callable[[bytes], Path], small: cfg.Network
) -> None:
    path = file(trained(small.with_classes(5)))
    assert not diagnosis.diagnose(path, small).ok
    assert diagnosis.diagnose(path, small, classes=5).ok


@pytest.mark.parametrize(
    "arguments", [(5, "yolov4"), ("f.weights", 5), (None, "yolov4"), (["f.weights"], "yolov4")]
)
def test_wrong_arguments_are_type_errors(arguments: tuple[Any, Any]) -> None:
    with pytest.raises(TypeError):
        diagnosis.diagnose(*arguments)


@pytest.mark.parametrize("classes", ["3", 3.0, True])
def test_classes_must_be_an_int(classes: Any) -> None:
    with refused(TypeError):
        diagnosis.diagnose("f.weights", "yolov4", classes=classes)


def test_broken_cfg_is_a_cfg_error(file: Callable[[bytes], Path]) -> None:
    with pytest.raises(errors.CfgError):
        diagnosis.diagnose(file(b"x"), "[net]\nwidth=0\n")


def test_layers_show_how_far_the_file_matches(
    file: Callable[[bytes], Path], small: cfg.Network
) -> None:
    result = diagnosis.diagnose(file(trained(small.with_classes(5))), small)
    assert [row.status for row in result.layers] == ["fits"] * 4 + ["parts", "unreached"]
    kernel = result.layers[0].arrays[-1]
    raw = np.frombuffer(trained(small), "<f4", offset=20)[32 : 32 + 216]
    assert (kernel.role, kernel.shape, kernel.offset) == ("kernel", (8, 3, 3, 3), 20 + 4 * 32)
    assert kernel.stats is not None
    assert kernel.stats.minimum == pytest.approx(raw.min())
    assert kernel.stats.mean == pytest.approx(raw.mean(dtype=np.float64))
    assert kernel.stats.std == pytest.approx(raw.std(dtype=np.float64))


def test_inspect_recognises_a_known_file_by_its_size(official_tiny: Any) -> None:
    inspection = diagnosis.inspect(official_tiny.weights)
    assert inspection.detected is None
    assert inspection.header is not None
    assert inspection.header.size_bytes == 20
    assert (inspection.matches[0].name, inspection.matches[0].classes) == ("yolov4-tiny", 80)
    network = cfg.parse_cfg(official_tiny.cfg)
    assert [(row.layer, row.floats) for row in inspection.layers] == [
        (row.layer, row.floats) for row in _known.layer_floats(layout.segments(network))
    ]


def test_inspect_with_a_cfg_gives_shapes_and_lines(official_tiny: Any) -> None:
    inspection = diagnosis.inspect(official_tiny.weights, official_tiny.cfg)
    stored = [row for row in inspection.layers if row.arrays]
    assert stored[0].arrays[-1].shape == (32, 3, 3, 3)
    assert stored[0].cfg_line is not None
    answer = inspection.to_dict()
    json.dumps(answer, allow_nan=False)
    assert answer["layers"][0]["arrays"][3]["role"] == "moving_variance"
    assert answer["layers"][0]["arrays"][3]["stats"]["negative"] == 0


@pytest.mark.parametrize("content", [b"", b"<html></html>", b"version https://git-lfs"])
def test_inspect_recognises_other_kinds_of_file(
    content: bytes, file: Callable[[bytes], Path]
) -> None:
    inspection = diagnosis.inspect(file(content))
    assert inspection.detected in ("empty", "html", "text")
    assert inspection.matches == ()


@pytest.mark.parametrize("name", ["none.weights", ""])
def test_inspect_raises_for_unreadable_files(name: str, tmp_path: Path) -> None:
    with refused(OSError):
        diagnosis.inspect(tmp_path / name)


def test_bytes_after_a_network_without_weights_are_trailing(tmp_path: Path) -> None:
    network = cfg.parse_cfg("[net]\nheight=8\nwidth=8\nchannels=3\n[maxpool]\nsize=2\nstride=2\n")
    path = tmp_path / "pool.weights"
    path.write_bytes(weights_files.content(np.zeros(10)))
    result = diagnosis.diagnose(path, network)
    assert [(cause.kind, cause.bytes) for cause in result.causes] == [("trailing", 40)]
