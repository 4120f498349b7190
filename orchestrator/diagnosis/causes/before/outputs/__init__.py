"""Whether outputs can vary, can reach their targets, and belong to the loss that trains them."""
