"""Darknet's cfg language: text to `Network`, and the stock networks; knows only errors."""
