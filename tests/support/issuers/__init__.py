"""Issuers: identity providers and authorization servers that do what a test wants."""
