"""API keys: which are in force, the file that some come from, and making new ones.

Only the SHA-256 of a key is known.
No text of a key may reach a log, a message or another server.
"""
