"""API keys: which are in force, the file that some come from, and making new ones.

Of a key only its SHA-256 is known.
No text of a key may reach a log, a message or another server.
"""
