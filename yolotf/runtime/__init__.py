"""TensorFlow's kernels through its C API: no TensorFlow Python is imported."""
