"""Cfgs edited by hand: the true edit is the first cause, and sound files are not called damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import yolotf
from support import edited_cfgs, weights_files
from support.messages import refused, said
from yolotf.darknet import cfg, stock
from yolotf.diagnosis import diagnose
from yolotf.weights import catalog, layout


def as_text(network: cfg.Network, name: str) -> cfg.Network:
    """The same network as if read from a cfg file, with lines."""
    return cfg.parse_text(network.to_cfg(), source=name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolov3-tiny", "yolov4-tiny-3l", "enet-coco"])
def test_true_edit_is_the_first_cause(name: str, tmp_path: Path) -> None:
    network = as_text(stock.network(name), f"{name}.cfg")
    path, written = tmp_path / "a.weights", None
    tried = set()
    for case in sorted(edited_cfgs.cases(network, 2, seed=3), key=lambda case: id(case.file)):
        if case.file is not written:
            written = case.file
            edited_cfgs.trained_file(written, path)
        diagnosed = diagnose(path, case.network)
        causes = [cause.to_dict() for cause in diagnosed.causes]
        assert causes, case
        assert case.is_true(causes[0]), (case.kind, case.description, causes[0])
        assert not any(map(edited_cfgs.calls_it_damaged, causes)), case
        tried.add(case.kind)
    assert len(tried) == 9


@pytest.mark.slow
@pytest.mark.parametrize("classes", [1, 3, 20, 90])
@pytest.mark.parametrize("name", ["yolov2-tiny", "yolov2", "yolov3-tiny", "yolov4-tiny"])
def test_classes_of_a_network_that_was_never_trained(
    name: str, classes: int, tmp_path: Path
) -> None:
    path = edited_cfgs.drawn_file(stock.network(name, classes=classes), tmp_path / "a.weights")
    (cause,) = [cause.to_dict() for cause in diagnose(path, stock.network(name)).causes]
    assert (cause["kind"], cause["file"]) == ("class_count", classes)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolov2-tiny", "yolov3-tiny"])
def test_true_edit_of_a_network_that_was_never_trained(name: str, tmp_path: Path) -> None:
    network = as_text(stock.network(name), f"{name}.cfg")
    path = tmp_path / "a.weights"
    for case in edited_cfgs.cases(network, 1, seed=1):
        edited_cfgs.drawn_file(case.file, path)
        causes = [cause.to_dict() for cause in diagnose(path, case.network).causes]
        assert causes, case
        assert case.is_true(causes[0]), (case.kind, case.description, causes[0])


# Heads


def heads_edited(
    network: cfg.Network, classes: int, chosen: tuple[int, ...], name: str
) -> cfg.Network:
    sections = edited_cfgs.with_heads_of(network.with_classes(classes), network, chosen)
    return as_text(cfg.resolve(sections, source=name), name)


@pytest.mark.slow
@pytest.mark.parametrize("numbers", ["zeros", "trained"])
def test_forgotten_heads_are_named_with_their_lines(numbers: str, tmp_path: Path) -> None:
    stock_network = stock.network("yolov3")
    edited = heads_edited(stock_network, 2, (2,), "yolov3.cfg")
    path, file = tmp_path / "a.weights", stock_network.with_classes(2)
    if numbers == "zeros":
        weights_files.write_zeros(path, layout.size_bytes(file))
    else:
        edited_cfgs.trained_file(file, path)
    diagnosed = diagnose(path, edited)
    (cause,) = diagnosed.causes
    first, second = (
        edited.layers[edited.heads[place].index - 1].line_of("filters") for place in (0, 1)
    )
    lines = [edited.heads[place].line_of("classes") for place in (0, 1)]
    for line in (first, second, *lines):
        assert f"yolov3.cfg:{line}" in cause.fix
    said(cause.text)
    said(cause.fix)
    assert cause.to_dict()["heads"] == [0, 1]


FORGOTTEN = [
    # network, classes written into some heads, these heads, classes of the file
    ("yolov3-tiny", 1, (0,), 1),
    ("yolov3-tiny", 1, (1,), 1),
    ("yolov3-tiny", 4, (0,), 80),
    ("yolov4-tiny", 2, (1,), 2),
    ("yolov4-tiny-3l", 3, (0, 2), 3),
    ("yolov4-tiny-3l", 3, (1,), 3),
    ("yolov7-tiny", 5, (0, 1), 5),
    ("yolov7-tiny", 5, (2,), 80),
]


@pytest.mark.parametrize(("name", "classes", "chosen", "of_file"), FORGOTTEN)
def test_forgotten_heads_are_recognised_by_size_alone(
    name: str, classes: int, chosen: tuple[int, ...], of_file: int, tmp_path: Path
) -> None:
    network = stock.network(name)
    edited = heads_edited(network, classes, chosen, "own.cfg")
    file = network.with_classes(of_file)
    path = weights_files.write_zeros(tmp_path / "a.weights", layout.size_bytes(file))
    (cause,) = diagnose(path, edited).causes
    filters = [file.layers[head.index - 1].output_shape.channels for head in file.heads]
    assert (cause.kind, cause["file"]) == ("head_filters", filters)


def test_file_of_mixed_heads_against_a_cfg_of_equal_ones(tmp_path: Path) -> None:
    # It was trained with the cfg that was edited in the second head only.
    network = stock.network("yolov4-tiny")
    file = heads_edited(network, 2, (1,), "mixed.cfg")
    edited_cfgs.trained_file(file, tmp_path / "a.weights")
    (cause,) = diagnose(tmp_path / "a.weights", network.with_classes(2)).causes
    assert (cause.kind, cause["file"], cause["model"]) == ("head_filters", [255, 21], [21, 21])
    said(cause.text)


# Folded batch normalization


def folded(network: cfg.Network, name: str = "folded.cfg") -> cfg.Network:
    sections = [
        section.with_option("batch_normalize", 0) if section.option("batch_normalize") else section
        for section in network.sections
    ]
    return as_text(cfg.resolve(sections, source=name), name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolov3-tiny", "yolov4-tiny", "darknet19", "yolov2-tiny-voc"])
@pytest.mark.parametrize("side", ["file", "cfg"])
def test_folded_batch_normalization_is_named(name: str, side: str, tmp_path: Path) -> None:
    network = stock.network(name)
    plain = folded(network)
    file, against = (plain, network) if side == "file" else (network, plain)
    edited_cfgs.trained_file(file, tmp_path / "a.weights")
    (cause,) = diagnose(tmp_path / "a.weights", against).causes
    assert cause.kind == "folded"
    assert cause["file"] == ("folded" if side == "file" else "normalized")
    count = sum(getattr(layer, "batch_normalize", False) for layer in network.layers)
    assert f" {count} " in cause.text
    said(cause.text)


def test_folded_file_of_other_classes_has_both_causes(tmp_path: Path) -> None:
    file = folded(stock.network("yolov3-tiny", classes=7))
    edited_cfgs.trained_file(file, tmp_path / "a.weights")
    diagnosed = diagnose(tmp_path / "a.weights", "yolov3-tiny")
    assert [cause.kind for cause in diagnosed.causes] == ["folded", "class_count"]
    assert diagnosed.causes[1]["file"] == 7


# Classifiers, and which network a size belongs to


@pytest.mark.parametrize("name", ["darknet19", "darknet53", "resnet50", "alexnet"])
@pytest.mark.parametrize("classes", [10, 200])
def test_class_count_of_a_classifier(name: str, classes: int, tmp_path: Path) -> None:
    size = layout.size_bytes(stock.network(name))
    path = weights_files.write_zeros(tmp_path / "a.weights", size)
    (cause,) = diagnose(path, stock.network(name, classes=classes)).causes
    assert (cause.kind, cause["file"], cause["model"]) == ("class_count", 1000, classes)
    said(cause.text)


def test_class_count_of_a_classifiers_cfg_cites_its_line(tmp_path: Path) -> None:
    network = as_text(stock.network("darknet19", classes=200), "own.cfg")
    size = layout.size_bytes(stock.network("darknet19"))
    path = weights_files.write_zeros(tmp_path / "a.weights", size)
    (cause,) = diagnose(path, network).causes
    assert f"own.cfg:{network.layers[23].line_of('filters')}" in cause.fix
    said(cause.fix)


@pytest.mark.parametrize(
    "name", ["yolov3-tiny", "yolov4-tiny", "darknet19", "yolov2", "yolov4", "yolov7"]
)
def test_stock_networks_own_class_count_comes_first_and_odd_ones_not_at_all(name: str) -> None:
    matches = catalog.solve(layout.floats(stock.network(name)))
    assert name in matches[0].architecture.names
    assert matches[0].ships
    assert all(match.ships or (match.classes or 0) <= 1000 for match in matches)
    first_odd = next((i for i, match in enumerate(matches) if not match.ships), len(matches))
    assert all(not match.ships or match.channels != 3 for match in matches[first_odd:])


# Layers


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolov3-tiny", "darknet19"])
def test_missing_and_added_sections_are_described(name: str, tmp_path: Path) -> None:
    network = as_text(stock.network(name), "own.cfg")
    for case in edited_cfgs.cases(network, 2, seed=5):
        if case.kind not in ("taken out", "added"):
            continue
        edited_cfgs.trained_file(case.file, tmp_path / "a.weights")
        cause, *others = diagnose(tmp_path / "a.weights", case.network).causes
        assert not others
        assert cause["change"] == ("added" if case.kind == "added" else "missing")
        said(cause.text)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolov2-tiny", "yolov3-tiny", "yolov4-tiny"])
@pytest.mark.parametrize("size", [2, 3, 5])
def test_size_of_the_last_kernel_is_no_truncation(size: int, name: str, tmp_path: Path) -> None:
    """The file ends where the smaller kernel does, which a broken transfer hardly would."""
    network = stock.network(name)
    before, _, after = network.to_cfg().rpartition("size=1\n")
    path = edited_cfgs.trained_file(network, tmp_path / "a.weights")
    edited = cfg.parse_text(f"{before}size={size}\n{after}", source="edited.cfg")
    (cause,) = diagnose(path, edited).causes
    assert cause.kind == "layer_shape"
    assert cause.cfg_line == before.count("\n") + 1
    said(cause.text)


@pytest.mark.parametrize("kept", [0.3, 0.7, 0.95])
def test_truncated_file_is_truncated_and_not_edited(kept: float, tmp_path: Path) -> None:
    network = stock.network("yolov4-tiny")
    path = edited_cfgs.trained_file(network, tmp_path / "a.weights")
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(int(size * kept) // 4 * 4 + 4)
    (cause,) = diagnose(path, network).causes
    assert cause.kind == "truncated"
    assert str(size) in cause.fix
    said(cause.fix)


@pytest.mark.parametrize("lost", [4, 64, 1000])
def test_lost_bytes_are_damage_and_no_edit(lost: int, tmp_path: Path) -> None:
    network = stock.network("yolov4-tiny")
    content = edited_cfgs.trained_file(network, tmp_path / "a.weights").read_bytes()
    (tmp_path / "b.weights").write_bytes(content[:1_000_000] + content[1_000_000 + lost :])
    (cause,) = diagnose(tmp_path / "b.weights", network).causes
    assert str(lost) in cause.text
    said(cause.text)
    said(cause.fix)


# Models


@pytest.mark.slow
def test_model_mismatch_has_the_same_cause(tmp_path: Path) -> None:
    by_hand = pytest.importorskip("support.by_hand")
    network = stock.network("yolov3-tiny", size=64)
    path = edited_cfgs.trained_file(network, tmp_path / "a.weights")
    models: list[tuple[Callable[[], object], str]] = [
        (lambda: by_hand.model_of(folded(network)), "folded"),
        (lambda: by_hand.model_of(network.with_classes(3)), "class_count"),
    ]
    for make, kind in models:
        with refused(yolotf.WeightsMismatch) as caught:
            yolotf.load_darknet_weights(make(), path)
        assert [cause.kind for cause in caught.value.diagnosis.causes] == [kind]
        assert "yolov7" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("classes", [10, 200])
def test_dense_head_of_other_classes(classes: int, tmp_path: Path) -> None:
    by_hand = pytest.importorskip("support.by_hand")
    from yolotf.models.keras_module import keras

    layers = keras().layers
    network = stock.network("darknet19", size=64)
    path = edited_cfgs.trained_file(network, tmp_path / "a.weights")
    x = by_hand.picture(64)
    (deep,) = by_hand.heads_of(network, {-1: x}, stop=23)
    pooled = layers.GlobalAveragePooling2D()(deep)
    model = keras().Model(x, layers.Dense(classes)(pooled))
    with refused(yolotf.WeightsMismatch):
        yolotf.load_darknet_weights(model, path)
