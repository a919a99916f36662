"""What is in `yolotf.inference`, `images`, `evaluation` and `ray`, by its old paths."""

# `yolotf._moved` finds it, whatever this folder still holds.
__path__[:] = []
