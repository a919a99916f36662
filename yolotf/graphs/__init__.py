"""Graphs of TensorFlow operations: sections, folded networks, decoding and suppression."""
