"""What a network loses of its rows on the way from the inputs to the outputs."""
