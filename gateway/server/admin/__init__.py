"""The admin port of one worker: health, readiness, status and metrics.

The pages answer from memory and wait for nothing.
No route may lead here, and nothing that a client chose may become a label.
"""
