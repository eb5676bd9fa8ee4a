"""Sockets of clients: listening, TLS, slots, half-closed and slow clients, the end of connections.

What is counted here is counted from the moment a socket is accepted.
Nothing here reads HTTP.
"""
