"""Who the caller is: finding the one credential, choosing its kind, the steps to a known caller, and when that ends.

JWTs are the kind of the core; others come from features.
No way may lead past a step; what is answered without waiting needs no further look.
"""
