"""Counters, the access log and its writer, the lag of the loop, metric families, errors that nothing has foreseen.

Counters are plain integers; they become metrics at a scrape.
Nothing on a request's path may wait here; only the writer's thread does.
"""
