"""A JWT-authenticating API gateway: verify at the edge, forward with identity.

``cli``, ``app`` and ``configuration`` put the folders together; every other module beside this one is ground.
Ground holds values and small tools that all parts share; it must import nothing but ground.
"""

__version__ = "0.2.0.dev0"
