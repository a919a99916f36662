"""ONNX operations with the signatures of `tf.raw_ops`: the `ops` of `yolotf.graphs`.

Sections are described once, channels last, in `yolotf.graphs`. Here the same calls write nodes that
compute channels first, the order of kernels in the file and the one that engines prefer. A tensor
knows the order of its axes in memory (`yolotf.onnx.tensors`), and a Transpose is written only where
a section needs another order. Only operations and arguments that sections use are supported.
"""

from yolotf.onnx.operations import axes, elements, products, reductions, windows
from yolotf.onnx.operations.writer import Operations

__all__ = ["Operations", "axes", "elements", "products", "reductions", "windows"]
