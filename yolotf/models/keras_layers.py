"""Keras layers for sections of Darknet that no stock layer implements.

They use TensorFlow operations and work with Keras 3 and tf_keras. Importing this module registers
them, so that `keras.models.load_model` can load a `.keras` file that contains them.
"""

from yolotf.models.activation_layers import (
    Activation,
    activated,
    activation_layer,
    mish_of_small_numbers,
)
from yolotf.models.builder import BN_MOMENTUM
from yolotf.models.convolution import convolve
from yolotf.models.sections.antialiased import Blur
from yolotf.models.sections.convolutional import (
    FlexibleConv2D,
    GroupedConv2D,
    LocallyConnected2D,
)
from yolotf.models.sections.joins import ChannelSlice, Shortcut
from yolotf.models.sections.pointwise import (
    Implicit,
    LocalResponseNormalization,
    TreeSoftmax,
)
from yolotf.models.sections.recurrent import History, Recurrent, reset_states
from yolotf.models.sections.resampling import (
    ChannelMaxPooling,
    PaddedPooling2D,
    Reorg,
    SpaceToDepth,
    repeated,
)
from yolotf.models.windows import Padding

__all__ = [
    "BN_MOMENTUM",
    "Activation",
    "Blur",
    "ChannelMaxPooling",
    "ChannelSlice",
    "FlexibleConv2D",
    "GroupedConv2D",
    "History",
    "Implicit",
    "LocalResponseNormalization",
    "LocallyConnected2D",
    "PaddedPooling2D",
    "Padding",
    "Recurrent",
    "Reorg",
    "Shortcut",
    "SpaceToDepth",
    "TreeSoftmax",
    "activated",
    "activation_layer",
    "convolve",
    "mish_of_small_numbers",
    "repeated",
    "reset_states",
]
