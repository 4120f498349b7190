"""What comes out of a search: how sure it is, what mattered, and the files for people."""
