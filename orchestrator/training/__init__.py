"""A run and its attempts."""
