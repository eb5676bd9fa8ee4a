"""The demo: an identity provider, an echo service and a gateway on loopback, started by `gateway demo`.

They are real servers of their own, for trying out and for tests.
Nothing that a production gateway runs may import them.
"""

#: Where ``gateway demo`` puts its identity provider and ``gateway token`` looks for it.
ISSUER_PORT = 9401
DEFAULT_ISSUER = f"http://127.0.0.1:{ISSUER_PORT}"
