"""TensorFlow's kernels through its C API, without TensorFlow's Python."""
