"""Gateways: whole ones in this process or their own, and their parts put together."""
