"""How the two Darknet forks in use read the same cfg differently.

AlexeyAB's Darknet drops all blanks, only supports comments on lines of their own and separates the
numbers of a list at commas (src/parser.c:1800, src/utils.c:424). hank-ai's, the maintained fork,
ends values and section names at `#`, separates the numbers of a list at any character that cannot
be part of a number, and stops at anything it does not expect (src-lib/darknet_cfg.cpp:113, 181,
338, 600, of June 2026).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from yolotf.darknet.activations import ACTIVATIONS

Dialect = Literal["alexeyab", "hank-ai"]

NAMES: dict[str, str] = {"alexeyab": "AlexeyAB's Darknet", "hank-ai": "hank-ai's Darknet"}

_BLANKS = " \t\r\n"
_SECTION = re.compile(r"\[(?P<name>.+)\]")
_KEY = re.compile(r"[^#= \t]+")
_PLAIN_NUMBER = re.compile(r"-?(\d[-.\d]*|\.\d[-.\d]*)", re.ASCII)
_NUMBER_LIST = re.compile(r"[-+.,\deE]*", re.ASCII)
_GAP = re.compile(r"[-.\d][ \t]+[-.\d]", re.ASCII)
_AFTER_SEMICOLON = re.compile(";[^,]*")


class _ListSyntax(NamedTuple):
    """How the numbers of a list are written."""

    parts: re.Pattern[str]
    """What hank-ai's Darknet takes for a number (darknet_cfg.cpp:338, 400)."""
    number: re.Pattern[str]
    """The number at the start of such a part, or between two commas (atoi, atof)."""


_INTEGERS = _ListSyntax(re.compile(r"[-\d]+", re.ASCII), re.compile(r"[-+]?\d+", re.ASCII))
_FLOATS = _ListSyntax(
    re.compile(r"[-.\d]+", re.ASCII),
    re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII),
)
_LISTS: dict[str, _ListSyntax] = {
    **dict.fromkeys(("counters_per_class", "from", "layers", "mask", "steps"), _INTEGERS),
    **dict.fromkeys(("anchors", "scales", "seq_scales"), _FLOATS),
}
LISTS = frozenset(_LISTS)
"""Keys whose value is a list of numbers."""


class Words(NamedTuple):
    """The values of a key whose value is a word.

    Attributes:
        known: the words; hank-ai's Darknet stops at others (darknet_enums.cpp:83).
        kind: what it calls them when it refuses another word.
        fallback: what AlexeyAB's Darknet takes another word for; None if it is an error, or if
            yolotf refuses the word.
    """

    known: frozenset[str]
    kind: str
    fallback: str | None = None


_OVERLAPS = Words(frozenset({"iou", "mse", "giou", "diou", "ciou"}), "IoU loss", "iou")
WORDS: dict[str, Words] = {
    "activation": Words(ACTIVATIONS, "activation name"),
    "iou_loss": _OVERLAPS,
    "iou_thresh_kind": _OVERLAPS,
    "nms_kind": Words(
        frozenset({"default", "greedynms", "diounms", "cornersnms"}), "NMS kind", "default"
    ),
    "policy": Words(
        frozenset({"random", "poly", "constant", "step", "exp", "sigmoid", "steps", "sgdr"}),
        "learning rate policy",
        "constant",
    ),
    "type": Words(frozenset({"sse", "masked", "smooth"}), "cost type", "sse"),
    "weights_normalization": Words(
        frozenset({"none", "relu", "avg_relu", "softmax"}), "weights normalization"
    ),
    "weights_type": Words(frozenset({"none", "per_feature", "per_channel"}), "weights type"),
    "yolo_point": Words(
        frozenset({"center", "left_top", "right_bottom"}), "YOLO point type", "center"
    ),
}
TEXTS = frozenset({*WORDS, "lstm_activation", "map", "tree"})
"""Keys whose value is a word or a path. All others are numbers."""
_REALS = (
    "B1 B2 adversarial_lr alpha angle aspect assisted_excitation badlabels_rejection_percentage "
    "beta beta_nms class_scale clip cls_normalizer coord_scale decay delta_normalizer dot "
    "dropblock_size_abs dropblock_size_rel ema_alpha eps exposure gamma hue ignore_thresh "
    "iou_normalizer iou_thresh jitter kappa label_smooth_eps learning_rate learning_rate_min "
    "loss_scale mask_scale max_chart_loss max_delta mean momentum noobject_scale "
    "num_sigmas_reject_badlabels obj_normalizer object_scale power probability random ratio resize "
    "resize_step saturation scale scale_x_y shift sim_thresh spatial std temperature thresh "
    "time_normalizer track_ciou_norm truth_thresh uc_normalizer workspace_size_limit_MB"
)
"""Keys whose number may have an exponent in AlexeyAB's Darknet; others are integers."""
_MAX_EXPONENT = 39
_COUNTED_IN_COMMENTS = frozenset({"from", "layers"})
"""Lists whose commas AlexeyAB's Darknet counts even after a `#` (parser.c:943, 1076)."""


def check_dialect(dialect: str | None) -> None:
    """Raises ValueError unless `dialect` is None or a known dialect."""
    if dialect is not None and dialect not in NAMES:
        raise ValueError(f"dialect={dialect!r} must be one of {', '.join(NAMES)}")


class Reading(NamedTuple):
    """A value, and a sentence with both readings if the two forks read it differently.

    The value is None if the line counts as not written.
    """

    value: str | None
    difference: str = ""


def is_key(written: str) -> bool:
    """Whether hank-ai's Darknet takes the text before `=` as a key; it ignores other lines."""
    return _KEY.fullmatch(written.strip(_BLANKS)) is not None


def value_of_hank_ai(raw: str) -> str:
    """The value that hank-ai's Darknet reads from the text after `=`."""
    return raw.partition("#")[0].strip(_BLANKS)


def is_plain_number(value: str) -> bool:
    """Whether hank-ai's Darknet reads the value as a number (darknet_cfg.cpp:105)."""
    return _PLAIN_NUMBER.fullmatch(value) is not None


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
        dialect: the fork to follow; None for what the cfg's author will have meant, with a
            description of what either fork reads.
    """
    if dialect == "alexeyab":
        return Reading(_AFTER_SEMICOLON.sub("", joined) if key in LISTS else joined)
    if raw.startswith("#"):
        return Reading(
            None,
            f"{key}={shortened(raw.strip())} counts as not written, as in {_HANK}; {_ALEXEY} takes "
            "the comment as the value",
        )
    if not value_of_hank_ai(raw):
        return Reading(joined)
    if key in LISTS:
        return _read_list(key, raw, joined, dialect)
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


def _read_list(key: str, raw: str, joined: str, dialect: str | None) -> Reading:
    """The numbers of a list, separated by commas.

    Without a dialect, numbers that commas separate are read as AlexeyAB's Darknet reads them
    (hank-ai's reads the integers 100.0,200.0 as 100,0,200,0), and other lists as hank-ai's.
    """
    syntax = _LISTS[key]
    numbers = hank_ai_numbers(key, raw)
    before = joined.partition("#")[0]
    counted = joined if key in _COUNTED_IN_COMMENTS else before
    if syntax is _FLOATS:
        counted = counted.rstrip(",")  # each list has a length of its own, beyond which none count
    alexeyab = [
        match[0] if (match := syntax.number.match(part)) else "0" for part in counted.split(",")
    ]
    if not numbers or _equal(numbers, alexeyab) or not (before.isascii() and before.isprintable()):
        return Reading(before)
    there, here = ",".join(numbers), ",".join(alexeyab)
    written = f"{key}={shortened(raw.strip())} is read as"
    separated = not _GAP.search(raw.partition("#")[0]) and all(
        _FLOATS.number.fullmatch(part) for part in counted.split(",")
    )
    if separated and dialect is None:
        return Reading(
            here, f"{written} {shortened(here)}, as by {_ALEXEY}; {_HANK} reads {shortened(there)}"
        )
    return Reading(
        there,
        f"{written} {shortened(there)}, as by {_HANK}; {_ALEXEY} drops blanks, separates at commas "
        f"and reads {shortened(here)}",
    )


def anchors_of_alexeyab(anchors: str, num: str) -> str | None:
    """The anchors that AlexeyAB's Darknet reads, if commas at the end of the list count.

    It reads a 0 after each comma at the end until it has two numbers for each of `num=`
    (parser.c:531, 693); hank-ai's reads none, and leaves its default, 0.5.
    """
    written = anchors.partition("#")[0]
    numbers = written.rstrip(",")
    number = _INTEGERS.number.match(num)
    total = 2 * int(number[0]) if number and len(number[0]) < 10 else 0
    zeros = min(len(written) - len(numbers), total - numbers.count(",") - 1)
    return f"{numbers}{zeros * ',0'}" if numbers and zeros > 0 else None


def trailing_comma_difference(anchors: str, alexeyab: str) -> str:
    """How the two forks read a list of anchors that ends in a comma and is too short."""
    read = anchors.partition("#")[0].rstrip(",")
    return (
        f"anchors={shortened(anchors)} is read as {shortened(read)}, as by {_HANK}; {_ALEXEY} "
        f"reads a 0 after a comma at the end, {shortened(alexeyab)}"
    )


def hank_ai_numbers(key: str, raw: str) -> list[str]:
    """The numbers that hank-ai's Darknet reads from a list; a lone sign or point ends it."""
    syntax = _LISTS[key]
    numbers = []
    for part in syntax.parts.findall(value_of_hank_ai(raw)):
        number = syntax.number.match(part)
        if number is None:
            break
        numbers.append(number[0])
    return numbers


def _equal(numbers: Sequence[str], others: Sequence[str]) -> bool:
    return len(numbers) == len(others) and all(
        float(number) == float(other) for number, other in zip(numbers, others, strict=True)
    )


def written_for_both(key: str, value: str) -> str:
    """The value as both forks read it alike, e.g. without exponents (darknet_cfg.cpp:105)."""
    if words := WORDS.get(key):
        if (key, value) == ("weights_type", "per_layer"):
            return "per_feature"
        return words.fallback if words.fallback and value not in words.known else value
    if key in TEXTS:
        return value
    if key in LISTS:
        number = _LISTS[key].number
        return ",".join(_plain(part, number) for part in value.split(","))
    return _plain(value, _FLOATS.number if key in _REALS.split() else _INTEGERS.number)


def _plain(value: str, pattern: re.Pattern[str]) -> str:
    """The number at the start of a value, in digits; a value without one is unchanged."""
    match = pattern.match(value)
    if match is None:
        return value
    number = match[0].removeprefix("+")
    if "e" not in number.lower():
        return number

    from decimal import Decimal  # large, and exponents are rare in cfgs

    decimal = Decimal(repr(float(number)))
    # Other numbers are 0 or infinite as floats in Darknet.
    is_float = decimal.is_finite() and abs(decimal.adjusted()) < _MAX_EXPONENT
    return format(decimal, "f") if is_float else value


def key_difference(written: str, key: str, section: str) -> str:
    """How the two forks read a line with blanks in its key."""
    return (
        f"{shortened(written.strip())} is read as {key}= of [{section}], as by {_ALEXEY}, which "
        f"drops blanks; {_HANK} ignores the line"
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


_POLICY_KEYS = {
    "step": frozenset({"step", "scale"}),
    "steps": frozenset({"steps", "scales", "seq_scales"}),
    "sgdr": frozenset({"steps", "scales", "seq_scales"}),
    "exp": frozenset({"gamma"}),
    "sigmoid": frozenset({"gamma", "step"}),
}
"""The keys of `[net]` that a `policy=` reads (parser.c:1247, darknet_cfg.cpp:1356)."""


def unread_keys(section: str, values: Mapping[str, str]) -> frozenset[str]:
    """The keys of `[section]` that neither fork reads because of the section's other values."""
    if full_name(section) != "net":
        return frozenset()
    read = _POLICY_KEYS.get(values.get("policy", "constant"), frozenset())
    unread = frozenset().union(*_POLICY_KEYS.values()) - read
    adam = re.match(r"[-+]?0*[1-9]", values.get("adam", "0"), re.ASCII)
    return unread if adam else unread | {"B1", "B2", "eps"}


def known_keys(section: str) -> frozenset[str] | None:
    """The keys that either fork reads in `[section]`; None if neither has the section."""
    full = full_name(section)
    if full not in _KEYS:
        return None
    return hank_ai_keys(section) | frozenset(_ONLY_ALEXEYAB.get(full, "").split())
