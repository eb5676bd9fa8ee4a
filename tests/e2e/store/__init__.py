"""Gateways that share Redis, and Redis away, slow or odd."""
