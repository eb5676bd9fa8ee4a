"""Which request and response fields pass, and those that the gateway writes.

Heads are built new; identity fields come last.
A client's value of a field that a service would believe must never pass.
"""
