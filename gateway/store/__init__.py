"""What gateways share in Redis: the link, its clock and its state, one-time ids, and the settings of the fleet.

Every command names the form of its answer; everything else counts as an outage.
Nothing that came from a client is stored as it was sent.
"""
