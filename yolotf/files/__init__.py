"""Reads bytes from any source and writes files atomically; knows nothing about Darknet."""
