"""Why a file and a network do not belong together; never imports TensorFlow."""
