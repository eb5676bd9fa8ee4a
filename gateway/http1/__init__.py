"""HTTP/1.1 as grammar: requests, responses, targets, hosts, forwarding fields, WebSocket frames.

Everything here is pure: bytes go in, a value or a refusal comes out.
No socket, no route and no token may be known here.
"""
