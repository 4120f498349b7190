"""What remedies do to a model, so that plain Keras still loads it."""
