"""The name of `yolotf.evaluation` until version 0.1, for type checkers."""

from yolotf.evaluation import *
