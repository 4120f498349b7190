"""Rows from files: a module for each kind of file, and what is the same for all tables."""
