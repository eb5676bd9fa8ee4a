"""Abuse detection: floods of refused credentials from one address, and credentials used from many.

It logs what it finds and, where the configuration says so, refuses it for a while.
Nothing here judges a credential; it gets the outcome of requests, and the addresses that good credentials come from.
"""
