"""Verdicts: from what was measured to what it means. Pure: no model, no file."""
