"""Searches: which policy, or which value of any key, gets a model good at the least cost."""
