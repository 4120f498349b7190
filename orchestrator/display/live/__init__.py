"""The live display: what a terminal shows while a run trains."""
