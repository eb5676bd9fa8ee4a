"""One gateway made of processes: foreground, supervisor, workers, their pages and metrics, open files and streams.

Workers are started afresh and talk to the supervisor over a socket pair.
Nothing of a request may be decided here.
"""
