"""What an optional feature may be: its declaration, its part in a worker, guards, kinds of credentials, endpoints.

The core calls these; features implement them. Every hook here is used by a
feature, and nothing here knows a feature.
"""
