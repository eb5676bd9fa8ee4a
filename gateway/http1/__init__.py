"""HTTP/1.1 as grammar: requests, responses, targets, hosts, forwarding fields, WebSocket frames.

Everything here is pure, the time being an argument: bytes go in, a value or a refusal comes out.
No socket and no route may be known here; of a token, only where it may stand in a handshake.
"""
