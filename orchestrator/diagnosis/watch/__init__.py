"""What the gradients of a training tell of units, at no cost: an alarm, never a verdict."""
