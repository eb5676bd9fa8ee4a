"""Upstreams: services behind a gateway that record, come and go, or break."""
