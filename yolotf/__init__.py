"""Loads Darknet `.weights` files into TensorFlow, and says exactly what does not fit and why."""
