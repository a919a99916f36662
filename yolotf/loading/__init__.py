"""Loading, saving and diagnosing the weights of Keras models, complete or in part."""
