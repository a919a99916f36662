"""Converts Darknet's padding of a window to the `padding=` of a Keras layer."""

from __future__ import annotations

from dataclasses import dataclass

from yolotf.darknet import cfg

Padding = tuple[tuple[int, int], tuple[int, int]]
"""Rows before and after, columns before and after."""


@dataclass(frozen=True)
class Window:
    """The padding of a window: `padding` as for Keras layers, `sides` always explicit."""

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
        """Returns the padding for a section.

        Args:
            layer: the section.
            size: rows and columns of the window, including dilation.
            strides: strides along rows and columns.
            before: rows above and columns to the left of the image.
        """
        sides, same = [], True
        for extent, positions, stride in zip(
            layer.input_shape[:2], layer.output_shape[:2], strides, strict=True
        ):
            reach = (positions - 1) * stride + size
            after = max(0, reach - extent - before)
            sides.append((before, after))
            # TensorFlow's `same` has ceil(extent / stride) positions, and the smaller half of the
            # padding comes first.
            missing = max(0, reach - extent)
            same &= positions == -(-extent // stride) and before == missing // 2
        rows, columns = sides
        if rows == columns == (0, 0):
            return cls("valid", (rows, columns))
        return cls("same" if same else (rows, columns), (rows, columns))
