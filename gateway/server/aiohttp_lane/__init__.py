"""The full lane: every request that HTTP/1.1 allows, on aiohttp's server protocol.

Its private parts are touched in `protocol.py` only.
No rule may be decided here in another way than in the express lane.
"""
