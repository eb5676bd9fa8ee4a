"""Redis: a real one, and one that plays a script."""
