"""How each kind of source is read, and read again up to where a training goes on."""
