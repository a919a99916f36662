"""`load_darknet_weights`, `save_darknet_weights`, and the loads that are not the whole file."""
