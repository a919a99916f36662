"""How a window walks over its input: what `padding=` of a Keras layer must say."""

from __future__ import annotations

from dataclasses import dataclass

from yolotf.darknet import cfg

Padding = tuple[tuple[int, int], tuple[int, int]]
"""Rows before and after, columns before and after."""


@dataclass(frozen=True)
class Window:
    """How a window walks over one input: what `padding=` of a Keras layer must say."""

    padding: str | Padding
    sides: Padding

    @classmethod
    def of(
        cls,
        layer: cfg.Layer,
        size: int,
        strides: tuple[int, int],
        before: int,
    ) -> Window:
        """For windows of `size` (dilation included) that start `before` floats outside."""
        sides, same = [], True
        for extent, positions, stride in zip(
            layer.input_shape[:2], layer.output_shape[:2], strides, strict=True
        ):
            reach = (positions - 1) * stride + size
            after = max(0, reach - extent - before)
            sides.append((before, after))
            # TensorFlow's `same`: as many positions as there are strides, the smaller half
            # of what is missing first.
            missing = max(0, reach - extent)
            same &= positions == -(-extent // stride) and before == missing // 2
        rows, columns = sides
        if rows == columns == (0, 0):
            return cls("valid", (rows, columns))
        return cls("same" if same else (rows, columns), (rows, columns))
