"""What gateways share in Redis: the link, clocks, conditions, one-time ids, the fleet.

Every command names the form of its answer; everything else counts as an outage.
Nothing that came from a client is stored as it was sent.
"""
