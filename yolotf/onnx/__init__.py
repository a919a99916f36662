"""Networks as ONNX models, written from the same description as TensorFlow's graphs."""
