"""The full lane: every request that HTTP/1.1 allows, on aiohttp's server protocol.

What aiohttp does not promise is touched in `protocol.py` only.
No rule may be decided here in another way than in the express lane.
"""
