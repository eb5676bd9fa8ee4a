"""Where revoked credentials are read from (a file, Redis) and how they are revoked (a command, `POST /revoke`).

The core decides whether a credential is revoked (`jwt/revocations`).
Nothing that came from a token may be stored, only digests of it.
"""
