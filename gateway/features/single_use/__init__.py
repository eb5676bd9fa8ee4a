"""Tokens for one request each.

A token is spent before its request is sent on.
What remembers used ids is the core's (`store/one_time_ids.py`).
"""
