"""The gateways that are measured, by the name that scenarios use."""

from __future__ import annotations

from benchmarks.peers.base import Peer
from benchmarks.peers.envoy import Envoy
from benchmarks.peers.gateway import Gateway
from benchmarks.peers.haproxy import HAProxy
from benchmarks.peers.limits import Direct, Sketch
from benchmarks.peers.naive import Naive
from benchmarks.peers.nginx import Nginx
from benchmarks.peers.node import Node
from benchmarks.peers.plain import Plain

PEERS: dict[str, Peer] = {
    "gateway": Gateway(express=True),
    "gateway-full-lane": Gateway(express=False),
    "gateway-3.14": Gateway(express=True, python="3.14"),
    "envoy-cache": Envoy(cache=True),
    "envoy": Envoy(cache=False),
    "haproxy": HAProxy(),
    "nginx": Nginx(),
    "naive": Naive(),
    "node": Node(),
    "plain": Plain(),
    "sketch": Sketch(),
    "direct": Direct(),
}
