"""JWTs: from a token's bytes to an identity, the cache of verified tokens, and what a worker leaves to its successor.

Parsing and signatures are in `jose`, claims in `claims`, keys in `issuers`, revoked credentials in `revocations`.
Nothing that depends on a route may be decided or remembered here.
"""
