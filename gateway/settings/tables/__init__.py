"""The core's tables, one TOML table a file, and what follows from one entry alone.

This folder has declarations only, with the checks of single values that they
name. Checks of several options are in ``checks``.
"""
