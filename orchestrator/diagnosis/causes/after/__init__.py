"""What a failure points to: the network, or the rows."""
