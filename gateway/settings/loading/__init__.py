"""From a file, variables and flags to one valid configuration, and what commands need for that.

No option is declared here, and no check of several options is made here.
"""
