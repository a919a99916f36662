"""Changes of rare sections are found by what the sections' classes say about themselves."""

from support.cfgs import conv, net, normalized, section, yolo
from support.edited_cfgs import trained_file
from yolotf.darknet import cfg
from yolotf.diagnosis import diagnose, priors
from yolotf.weights import layout

HEAD = conv(18) + yolo()


def causes(file: str, model: str, tmp_path):
    """The causes of a difference between the network of a file and another."""
    path = trained_file(cfg.parse_cfg(file), tmp_path / "a.weights")
    return diagnose(path, cfg.parse_cfg(model)).to_dict()["causes"]


def test_filters_before_a_history_change_all_its_frames(tmp_path):
    def text(filters: int) -> str:
        history = section("history", history_size=3)
        return (
            net(32) + normalized(16, 3) + normalized(filters, 3) + history + normalized(24) + HEAD
        )

    (cause,) = causes(text(40), text(24), tmp_path)
    assert (cause["kind"], cause["layer"]) == ("layer_shape", 1)
    model, file = (layout.floats(cfg.parse_cfg(text(filters))) for filters in (24, 40))
    assert cause["file_floats_minus_model"] == file - model


def test_a_local_section_that_the_file_lacks_is_named(tmp_path):
    before, after = net(16) + normalized(16, 3), normalized(24, 3) + HEAD
    local = section("local", filters=16, size=3, pad=1, activation="leaky")
    (cause,) = causes(before + after, before + local + after, tmp_path)
    assert (cause["kind"], cause["layer"], cause["change"]) == ("layer_shape", 1, "added")


def test_a_recurrent_section_that_the_file_lacks_is_named(tmp_path):
    before, after = net(16) + normalized(16, 3), normalized(24, 3) + HEAD
    recurrent = section("crnn", output=16, hidden=8, size=3, pad=1, activation="leaky")
    (cause,) = causes(before + after, before + recurrent + after, tmp_path)
    assert (cause["kind"], cause["layer"], cause["change"]) == ("layer_shape", 1, "added")


def test_a_head_that_shares_its_kernel_does_not_shift_the_others(tmp_path):
    def text(*filters: int) -> str:
        first, second, third = (f // 3 - 5 for f in filters)
        return (
            net(32)
            + normalized(16, 3)
            + conv(filters[0])
            + yolo(first)
            + section("route", layers=0)
            + conv(filters[0], share_index=1)
            + yolo(first)
            + section("route", layers=0)
            + conv(filters[1])
            + yolo(second)
            + section("route", layers=0)
            + conv(filters[2], 3, pad=1)
            + yolo(third)
        )

    (cause,) = causes(text(18, 18, 24), text(18, 18, 18), tmp_path)
    assert (cause["kind"], cause["file"], cause["model"]) == (
        "head_filters",
        [18, 18, 24],
        [18, 18, 18],
    )
    assert cause["heads"] == [2]


def test_penalties_have_the_order_that_their_reasons_state():
    assert priors.UNCHANGED < priors.MISSING_SIZE < priors.WRITTEN_GROUPS < priors.SIZE
    assert priors.classes(20) < priors.classes(80) < priors.channels(32)
    assert priors.channels(3) < priors.channels(9) < priors.channels(32)
    assert priors.filters(32, 16, before_head=False) < priors.filters(33, 16, before_head=False)
    assert priors.added(same_channels=True) < priors.added(same_channels=False)
    assert priors.SHIFTED < priors.SHIFTED_SIZE
