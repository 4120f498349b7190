"""The activations of a model, found in its graph."""
