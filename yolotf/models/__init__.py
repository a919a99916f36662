"""Keras models: built from a network, or taken apart to find the order of their layers."""
