"""What moves on a terminal while a run trains."""
