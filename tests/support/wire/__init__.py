"""Bytes of HTTP messages: how they are read, and collections of odd ones."""
