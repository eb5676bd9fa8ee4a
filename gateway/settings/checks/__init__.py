"""Checks of the core's options against each other, and warnings about what they open.

A check looks only at options that are sound.
What concerns a feature's options is in the feature's folder.
"""
