"""WebSockets: the handshake, the tunnel, and how it ends.

Frames are checked and relayed, not decoded.
A tunnel must end with its credential.
"""
