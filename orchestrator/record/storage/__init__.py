"""How a run is kept: one directory of plain files, of which the journal is the truth."""
