"""`yolotf convert` and the writers of its output formats."""
