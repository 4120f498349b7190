"""Why a network does not learn: what can be said before its training, and what only that shows."""
