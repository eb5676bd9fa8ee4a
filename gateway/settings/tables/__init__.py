"""The tables of the core, one file each: declarations only.

A feature adds tables and options of its own from its folder.
Nothing is computed here.
"""
