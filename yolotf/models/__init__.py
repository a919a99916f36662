"""Builds Keras models from networks, and analyzes existing models to order their layers."""
