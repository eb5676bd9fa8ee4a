"""Calls to identity providers: HTTP with bounds, discovery, caching rules, client authentication.

Each call has a timeout, a size limit and one place for its faults.
Nothing here is on a request's path without a bound on how long it may take.
"""
