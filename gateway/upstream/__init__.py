"""Passing a request on: header rules, pools of connections, the exchange.

It works on raw heads over connections leased from aiohttp's pool.
Nothing here knows a route's rules or a token.
"""
