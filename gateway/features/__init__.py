"""The optional features, one folder each, and the list of them.

A folder holds all of its feature: options, checks, what runs, metrics, status, reasons and commands.
Features never import each other, and the core imports none of them: what two of them need belongs in the core.
"""
