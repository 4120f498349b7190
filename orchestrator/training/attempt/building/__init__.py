"""What comes before an attempt trains: its rows, its model and the seed of that."""
