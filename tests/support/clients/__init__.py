"""Clients: what a test sends with, beyond the raw client of a running gateway."""
