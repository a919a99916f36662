"""Darknet cfgs: the public names of this package.

The rules are Darknet's (AlexeyAB/darknet src/parser.c and src/option_list.c):

* blanks and tabs are dropped everywhere; a line starting with `#` or `;` is a comment;
* if a section sets a key twice, the first value counts (option_list.c:101);
* numbers are parsed like C's `atoi`/`atof`, so `180 ###P6` is 180; text values are taken whole, so
  a comment after one is part of the value;
* layers are counted from 0 after `[net]`; `layers=` and `from=` are absolute, or relative
  when negative;
* a missing `activation` is `logistic` in layers that store weights, `linear` elsewhere.

Where Darknet silently guesses (an unknown activation becomes relu, an unknown section is skipped,
text in place of a number reads as 0), `CfgError` is raised with the line.
"""

from __future__ import annotations

from yolotf.darknet.activations import ACTIVATIONS
from yolotf.darknet.layer import NETWORK_INPUT, SECTION_ALIASES, Layer, Refusal, Shape
from yolotf.darknet.limits import UNLIMITED, Limits
from yolotf.darknet.network import Network, parse_cfg, parse_text, resolve
from yolotf.darknet.roles import Role, Stored
from yolotf.darknet.sections.convolutional import Convolutional, Local
from yolotf.darknet.sections.dense import Batchnorm, Connected
from yolotf.darknet.sections.heads import NMS_KINDS, Detection, Head, Region, Yolo
from yolotf.darknet.sections.joins import Route, Sam, ScaleChannels, Shortcut
from yolotf.darknet.sections.pointwise import (
    Activation,
    Dropout,
    Implicit,
    Normalization,
    Passive,
    Softmax,
)
from yolotf.darknet.sections.recurrent import (
    ConvLstm,
    Crnn,
    Gru,
    History,
    Lstm,
    Recurrent,
    Rnn,
    SubLayer,
)
from yolotf.darknet.sections.resampling import Avgpool, Crop, Pool, Reorg, Upsample
from yolotf.darknet.syntax import (
    NET_NAMES,
    Option,
    Section,
    Source,
    read_sections,
    sections_to_cfg,
)

__all__ = [
    "ACTIVATIONS",
    "NETWORK_INPUT",
    "NET_NAMES",
    "NMS_KINDS",
    "SECTION_ALIASES",
    "UNLIMITED",
    "Activation",
    "Avgpool",
    "Batchnorm",
    "Connected",
    "ConvLstm",
    "Convolutional",
    "Crnn",
    "Crop",
    "Detection",
    "Dropout",
    "Gru",
    "Head",
    "History",
    "Implicit",
    "Layer",
    "Limits",
    "Local",
    "Lstm",
    "Network",
    "Normalization",
    "Option",
    "Passive",
    "Pool",
    "Recurrent",
    "Refusal",
    "Region",
    "Reorg",
    "Rnn",
    "Role",
    "Route",
    "Sam",
    "ScaleChannels",
    "Section",
    "Shape",
    "Shortcut",
    "Softmax",
    "Source",
    "Stored",
    "SubLayer",
    "Upsample",
    "Yolo",
    "parse_cfg",
    "parse_text",
    "read_sections",
    "resolve",
    "sections_to_cfg",
]
