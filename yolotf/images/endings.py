"""The endings of the files that hold images and videos."""

from __future__ import annotations

DRAWN = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""Endings that a drawing keeps; of other images it is a .png."""
HEIF = frozenset({".heic", ".heif", ".hif"})
"""What phones write; Pillow reads it with pillow-heif."""
IMAGES = DRAWN | HEIF | {".avif", ".gif", ".jfif", ".jp2", ".pgm", ".pnm", ".ppm"}
VIDEOS = frozenset(
    {
        ".3gp",
        ".avi",
        ".flv",
        ".m2ts",
        ".m4v",
        ".mkv",
        ".mov",
        ".mp4",
        ".mpeg",
        ".mpg",
        ".mts",
        ".ogv",
        ".ts",
        ".vob",
        ".webm",
        ".wmv",
    }
)
