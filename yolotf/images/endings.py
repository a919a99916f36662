"""The extensions of image and video files."""

from __future__ import annotations

DRAWN = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""Extensions that a drawing keeps; drawings of other images are .png files."""
HEIF = frozenset({".heic", ".heif", ".hif"})
"""Images of phones, which Pillow reads with pillow-heif."""
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
