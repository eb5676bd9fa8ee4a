"""What an optional feature may be: its declaration, its part in a worker, guards, kinds of credentials, endpoints.

The core calls these; features implement them.
Only what has a user is here, and nothing here knows a feature.
"""
