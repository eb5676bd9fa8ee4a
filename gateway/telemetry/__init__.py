"""Counters, the access log with its lines and its writer, the lag of the loop, metric families.

Counters are plain integers; they become metrics at a scrape.
Nothing on a request's path may take a lock or wait here.
"""
