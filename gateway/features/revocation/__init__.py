"""Where revoked credentials are read from (a file, Redis) and how they are revoked (a command, `POST /revoke`).

Whether a credential is revoked is asked of the core (`jwt/revocations`).
Nothing that came from a token may be stored, only digests of it.
"""
