"""One request as values: its head, what it says to the gateway, its content, its answers and its outcome.

Declarations, what is rendered from them, and the rules for the end of a request that both lanes call.
No byte of a request may come back in an answer, but for a request id and an origin that were checked.
"""
