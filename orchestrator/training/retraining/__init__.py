"""What `retrain` is given in Python: made plain for the record, or sent as it is."""
