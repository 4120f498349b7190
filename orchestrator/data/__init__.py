"""Rows, in every shape that people have them in."""
