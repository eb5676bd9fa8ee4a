"""A JWT-authenticating API gateway: verify at the edge, forward with identity."""

__version__ = "0.1.0"
