"""What can be known of a training before it: from config, graph and rows, with no step made."""
