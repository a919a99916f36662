"""`yolotf convert` and its writers."""
