"""The name of `yolotf.inference` until version 0.1, for type checkers."""

from yolotf.inference import *
