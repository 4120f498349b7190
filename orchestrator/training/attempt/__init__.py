"""One attempt: a function of its task."""
