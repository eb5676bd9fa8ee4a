"""How much a client may ask for, and what happens beyond."""
