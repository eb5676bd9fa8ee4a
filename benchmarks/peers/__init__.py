"""The gateways that are measured, by the name that scenarios use."""

from __future__ import annotations

from benchmarks.peers.base import Peer
from benchmarks.peers.envoy import Envoy
from benchmarks.peers.gateway import Gateway
from benchmarks.peers.haproxy import HAProxy
from benchmarks.peers.naive import Naive
from benchmarks.peers.nginx import Nginx
from benchmarks.peers.node import Node

PEERS: dict[str, Peer] = {
    "gateway": Gateway(express=True),
    "gateway-full-lane": Gateway(express=False),
    "envoy-cache": Envoy(cache=True),
    "envoy": Envoy(cache=False),
    "haproxy": HAProxy(),
    "nginx": Nginx(),
    "naive": Naive(),
    "node": Node(),
}
