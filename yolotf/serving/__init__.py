"""`Detector` and what it answers."""
