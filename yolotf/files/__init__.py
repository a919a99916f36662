"""Bytes from anywhere, and whole files back: nothing here is about Darknet."""
