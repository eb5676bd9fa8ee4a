"""Metadata documents of protected resources (RFC 9728), and the challenges that lead to them.

Documents are rendered once, from the configuration.
Nothing of a request may come into a document.
"""
