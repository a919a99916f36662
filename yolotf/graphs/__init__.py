"""Sections as plain TensorFlow operations, decoding, suppression, the folded network."""
