"""Upstreams, their URLs, connections and health.

Waiting requests stand in one queue for each upstream.
aiohttp's private parts are touched in `connection.py` only.
"""
