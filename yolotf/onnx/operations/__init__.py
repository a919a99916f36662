"""ONNX's operations by the calls that `tf.raw_ops` takes: what `yolotf.graphs` calls `ops`.

The sections are described once, channels last, in `yolotf.graphs`. Here the same calls write nodes
that compute channels first, as the file holds kernels and as engines like it: a tensor knows the
order of its axes in memory (`yolotf.onnx.tensors`), and only where a section asks for the numbers
in another order is there a Transpose. Only what the sections use is here, and only for the
arguments that they use it with.
"""

from yolotf.onnx.operations import axes, elements, products, reductions, windows
from yolotf.onnx.operations.writer import Operations

__all__ = ["Operations", "axes", "elements", "products", "reductions", "windows"]
