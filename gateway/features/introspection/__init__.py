"""Token introspection (RFC 7662): the choice of the issuer, the request to it, and the cache of verdicts.

It bounds what a flood of made-up tokens can cause.
A failure must never be taken for an answer, nor a verdict outlive the time that the configuration gives it.
"""
