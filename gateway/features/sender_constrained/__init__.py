"""Tokens bound to a key (DPoP, RFC 9449) or to a client certificate (RFC 8705), and the proofs of their senders.

Each proof is checked on each request, and used once; the options are the core's (`settings/tables/dpop.py`).
A bound token must never pass for a bearer token.
"""
