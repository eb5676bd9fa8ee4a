"""One gateway made of processes: foreground, supervisor, workers, and the pages and metrics of all of them.

Workers are started afresh and talk to the supervisor over a socket pair.
Nothing of a request may be decided here.
"""
