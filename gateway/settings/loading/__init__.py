"""From a file, variables and flags to one valid configuration, and what commands need for that.

Names of variables and flags are derived from the model, and every fault is found in one go.
No option is declared here, and no check of several options is made here.
"""
