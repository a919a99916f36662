"""The name of `yolotf.ray` until version 0.1, for type checkers."""

from yolotf.ray import *
