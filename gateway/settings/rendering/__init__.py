"""A configuration, or its declaration, as text: the reference, the example file, and the values in force.

All that is said of one option comes from its declaration.
Nothing is read or checked here, and no secret may be shown.
"""
