"""What predictions are worth, compared with the best constant."""
