"""Settings to a Keras model, and back to a file."""
