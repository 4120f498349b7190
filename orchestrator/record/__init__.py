"""What a run is, and how it is kept: one directory of plain files."""
