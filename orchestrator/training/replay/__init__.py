"""An attempt trained again from its record."""
