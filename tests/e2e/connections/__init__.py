"""Connections of clients: how they begin, wait, leave and end, with TLS and as WebSockets."""
