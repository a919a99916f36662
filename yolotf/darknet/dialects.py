"""How the two Darknet forks in use read the same cfg differently.

AlexeyAB's Darknet drops all blanks and only supports comments on lines of their own
(src/parser.c:1800, src/utils.c:424). hank-ai's, the maintained fork, ends values and section names
at `#`, separates the numbers of a list at any character that is not a digit, and stops at anything
it does not expect (src-lib/darknet_cfg.cpp:113, 181, 338, 600, of June 2026).
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

Dialect = Literal["alexeyab", "hank-ai"]

NAMES: dict[str, str] = {"alexeyab": "AlexeyAB's Darknet", "hank-ai": "hank-ai's Darknet"}

_SECTION = re.compile(r"\[(?P<name>.+)\]")
PLAIN_NUMBER = re.compile(r"[-.\d]+", re.ASCII)
_NUMBER_LIST = re.compile(r"[-+.,\deE]*", re.ASCII)
_GAP = re.compile(r"[-.\d][ \t]+[-.\d]", re.ASCII)

LISTS = frozenset(
    {"anchors", "counters_per_class", "from", "layers", "mask", "scales", "seq_scales", "steps"}
)
"""Keys whose value is a list of numbers."""


def check_dialect(dialect: str | None) -> None:
    """Raises ValueError unless `dialect` is None or a known dialect."""
    if dialect is not None and dialect not in NAMES:
        raise ValueError(f"dialect={dialect!r} must be one of {', '.join(NAMES)}")


class Reading(NamedTuple):
    """A value, and a sentence with both readings if the two forks read it differently."""

    value: str
    difference: str = ""


def section_name(line: str) -> str | None:
    """The section name that hank-ai's Darknet reads from a line: all up to the last `]`."""
    match = _SECTION.match(line.strip())
    name = match["name"] if match else None
    return name if name and "[" not in name and "]" not in name else None


def read_value(key: str, raw: str, joined: str, dialect: str | None) -> Reading:
    """The value of `key`.

    Args:
        key: the key, which both forks read the same way.
        raw: the text after `=`.
        joined: the same text without blanks, as AlexeyAB's Darknet reads it.
        dialect: the fork to follow; None for hank-ai's, with a description of where AlexeyAB's
            differs.
    """
    if dialect == "alexeyab":
        return Reading(joined)
    before = raw.partition("#")[0].strip()
    if not before:
        return Reading(joined)
    if key in LISTS:
        numbers = joined.partition("#")[0]
        if not _GAP.search(before):
            if "," not in joined.partition("#")[2]:
                return Reading(numbers)
            return Reading(
                numbers,
                f"{key}={shortened(raw.strip())} is read as {shortened(numbers)}, as by {_HANK}; "
                f"{_ALEXEY} also counts the commas in the comment",
            )
        separated = ",".join(PLAIN_NUMBER.findall(before))
        if separated == numbers:
            return Reading(numbers)
        return Reading(
            separated,
            f"{key}={shortened(before)} is read as {shortened(separated)}, as by {_HANK}; "
            f"{_ALEXEY} drops blanks and reads {shortened(numbers)}",
        )
    if "#" not in joined:
        return Reading(joined)
    value = joined.partition("#")[0]
    if _NUMBER_LIST.fullmatch(value):
        return Reading(value)  # both end a number at the comment
    return Reading(
        value,
        f"{key}={shortened(raw.strip())} is read as {shortened(value)}, as by {_HANK}; "
        f"{_ALEXEY} takes the comment as part of the value",
    )


def section_difference(written: str, name: str) -> str:
    """How the two forks read a section line with text after the name."""
    return (
        f"{shortened(written)} is read as [{name}], as by {_HANK}; {_ALEXEY} knows no section of "
        "that name and puts an empty layer there"
    )


_HANK, _ALEXEY = NAMES["hank-ai"], NAMES["alexeyab"]


def shortened(text: str) -> str:
    """The text, cut off after 60 characters."""
    return text if len(text) <= 60 else f"{text[:57]}..."


_EVERY_LAYER = (
    "clip onlyforward dont_update burnin_update stopbackward train_only_bn dontload "
    "dontloadscales learning_rate"
)
_NET = (
    "max_batches batch learning_rate learning_rate_min sgdr_cycle sgdr_mult momentum decay "
    "subdivisions time_steps track augment_speed sequential_subdivisions try_fix_nan "
    "weights_reject_freq equidistant_point badlabels_rejection_percentage "
    "num_sigmas_reject_badlabels ema_alpha use_cuda_graph loss_scale dynamic_minibatch "
    "optimized_memory workspace_size_limit_MB adam B1 B2 eps height width channels inputs flip "
    "blur gaussian_noise mixup cutmix mosaic letter_box mosaic_bound contrastive "
    "contrastive_jit_flip contrastive_color label_smooth_eps resize_step attention "
    "adversarial_lr max_chart_loss angle aspect saturation exposure hue power policy burn_in "
    "step scale steps scales seq_scales gamma show_receptive_field"
)
_HEAD = (
    "classes num mask max max_delta counters_per_class label_smooth_eps scale_x_y "
    "objectness_smooth iou_normalizer obj_normalizer cls_normalizer delta_normalizer iou_loss "
    "iou_thresh_kind beta_nms nms_kind jitter resize ignore_thresh truth_thresh iou_thresh random "
    "map anchors"
)
_POOL = "stride stride_x stride_y size padding"
_REORG = "stride reverse"

_KEYS: dict[str, str] = {
    "net": _NET,
    "Gaussian_yolo": f"{_HEAD} uc_normalizer yolo_point",
    "activation": "activation",
    "avgpool": "",
    "batchnorm": "",
    "connected": "output activation batch_normalize",
    "contrastive": "classes yolo_layer temperature cls_normalizer max_delta contrastive_neg_max",
    "conv_lstm": "size stride dilation pad padding output groups activation batch_normalize xnor "
    "peephole bottleneck state_constrain shortcut lstm_activation time_normalizer",
    "convolutional": "filters groups size stride stride_x stride_y dilation antialiasing pad "
    "padding activation assisted_excitation share_index batch_normalize cbn binary xnor "
    "bin_output sway rotate stretch stretch_sway flipped dot angle grad_centr reverse coordconv "
    "stream wait_stream",
    "cost": "type scale ratio",
    "crnn": "size stride dilation pad padding output hidden groups activation batch_normalize "
    "xnor shortcut",
    "crop": "crop_height crop_width flip angle saturation exposure noadjust shift",
    "detection": "coords classes rescore num side softmax sqrt max coord_scale forced "
    "object_scale noobject_scale class_scale jitter resize random reorg",
    "dropout": "probability dropblock dropblock_size_rel dropblock_size_abs",
    "empty": "",
    "gru": "output batch_normalize",
    "history": "history_size",
    "implicit": "mean std filters atoms",
    "local": "filters size stride pad activation",
    "local_avgpool": _POOL,
    "lstm": "output batch_normalize",
    "maxpool": f"{_POOL} maxpool_depth out_channels antialiasing maxpool_zero_nonmax",
    "normalization": "alpha beta kappa size",
    "region": "coords classes num max log sqrt softmax focal_loss jitter resize rescore thresh "
    "classfix absolute random coord_scale object_scale noobject_scale mask_scale class_scale "
    "bias_match tree map anchors",
    "reorg": _REORG,
    "reorg3d": _REORG,
    "reorg_old": _REORG,
    "rnn": "output hidden activation batch_normalize logistic shortcut",
    "route": "layers groups group_id stream wait_stream",
    "sam": "from activation",
    "scale_channels": "from scale_wh activation",
    "shortcut": "activation weights_type weights_normalization from",
    "softmax": "groups temperature tree spatial noloss",
    "upsample": "stride scale",
    "yolo": f"{_HEAD} new_coords focal_loss track_history_size sim_thresh dets_for_track "
    "dets_for_show track_ciou_norm embedding_layer",
}
"""The keys that hank-ai's Darknet reads in each of its sections."""
_ONLY_ALEXEYAB = {"net": "max_crop min_crop unsupervised", "yolo": "show_details"}
"""Further keys that only AlexeyAB's Darknet reads."""
_ALIASES = {
    "network": "net",
    "silence": "empty",
    "conv": "convolutional",
    "conn": "connected",
    "max": "maxpool",
    "local_avg": "local_avgpool",
    "avg": "avgpool",
    "soft": "softmax",
    "lrn": "normalization",
}


def full_name(section: str) -> str:
    """The full name of a section whose name may be abbreviated (in either fork)."""
    return _ALIASES.get(section, section)


def hank_ai_keys(section: str) -> frozenset[str]:
    """The keys that hank-ai's Darknet reads in `[section]`."""
    full = full_name(section)
    return frozenset(f"{_KEYS[full]} {'' if full == 'net' else _EVERY_LAYER}".split())


def known_keys(section: str) -> frozenset[str] | None:
    """The keys that either fork reads in `[section]`; None if neither has the section."""
    full = full_name(section)
    if full not in _KEYS:
        return None
    return hank_ai_keys(section) | frozenset(_ONLY_ALEXEYAB.get(full, "").split())
