"""The configuration: loading, faults, the options of the core, checks and rendered documentation.

Every option is declared once; flags, environment names and documents are derived.
A fault names its key, its file and its line, and all faults are named at once.
"""
