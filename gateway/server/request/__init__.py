"""One request as values: its head, what it says to the gateway, its content, its answers and its outcome.

Declarations, and what is rendered from them.
No byte of a request may come back in an answer.
"""
