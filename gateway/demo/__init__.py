"""The demo: an identity provider, an echo service and a gateway on loopback, started by `gateway demo`.

They are real servers of their own, for trying out and for tests.
Nothing that a production gateway runs may import them.
"""
