"""Helpers of the tests: cfgs, files, models, and independent implementations to compare with."""
