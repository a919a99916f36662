"""Old import paths of modules that are in `inference`, `images`, `evaluation` and `ray` now."""

# Empty, so that `yolotf._moved` finds every submodule, whatever files are left in this folder.
__path__[:] = []
