"""What is revoked, in memory, and until when that is known to be all.

Sources add to it; every verdict asks it. Old knowledge must never pass for
current: its age is compared with the time at each check.
"""
