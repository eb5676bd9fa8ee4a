"""The admin port, and its pages for one worker: health, readiness, status and metrics.

These pages answer from memory; those of several workers are in `process`, and those that write are a feature's.
No route may lead here, and nothing that a client chose may become a label.
"""
