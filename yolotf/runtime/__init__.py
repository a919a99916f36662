"""TensorFlow's C API without its Python: graph, session, run."""
