"""What a model is trained on: the loss of each output, its targets, and its best constant."""
