"""A JWT-authenticating API gateway: verify at the edge, forward with identity."""

__version__ = "0.2.0.dev0"
