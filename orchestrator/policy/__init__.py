"""How an attempt failed, and what is tried next."""
