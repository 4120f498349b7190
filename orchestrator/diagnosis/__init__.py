"""Which units are dead, what the predictions are worth, and why."""
