"""How the applications of activations are noticed while a model is called in a graph."""
