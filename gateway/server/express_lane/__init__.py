"""The express lane: plain requests, served in the callback that brings their bytes.

It takes the same steps as the full lane, and hands over whatever needs more.
What it may serve is a list; anything not on it goes the long way.
"""
