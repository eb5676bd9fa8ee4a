"""Upstreams, their URLs, connections and health.

Waiting requests stand in one queue for each upstream.
What aiohttp does not promise is touched in `connection.py` only.
"""
