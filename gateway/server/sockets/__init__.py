"""Sockets of clients: listening, TLS, slots, half-closed and slow clients, the end of connections.

What is counted here is counted from the moment a socket is accepted.
Nothing here reads a request: of its bytes, only the first are looked at, to tell TLS from anything else.
"""
