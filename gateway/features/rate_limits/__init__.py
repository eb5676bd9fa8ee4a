"""Rate limits: how many requests each caller may send, counted by a worker or in Redis.

The arithmetic of buckets is the core's (`policy/token_bucket.py`).
Nothing here may wait longer than one exchange with Redis.
"""
