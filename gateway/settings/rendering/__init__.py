"""A configuration, or its declaration, as text: the reference, the example file, and the values in force.

Nothing is read or checked here.
"""
