"""Networks as ONNX, written from the one description that TensorFlow's graphs come from."""
