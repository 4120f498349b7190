"""Runs that are recorded: an attempt trained again, an interrupted run taken up."""
