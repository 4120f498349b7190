"""Searches, as people see them: the trials as they come, the result, a picture."""
