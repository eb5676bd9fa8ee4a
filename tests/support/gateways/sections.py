"""Header sections as the express lane reads them, under a small configuration."""

from __future__ import annotations

from gateway.http1.trusted_proxies import Peer
from gateway.server.express_lane.section import Section, read_section
from gateway.server.request.request import Admitted, RequestHead
from gateway.telemetry.record import Record
from tests.support.clock import FakeClock
from tests.support.composed import Route
from tests.support.pipeline import pipeline_of
from tests.support.tokens.verifying import make_settings

ROUTES = {
    "plain": Route(path="/", upstream="orders"),
    "observed": Route(path="/observed", upstream="orders", observe=True),
    "forwarded": Route(path="/token", upstream="orders", forward_authorization=True),
    "cors": Route(path="/cors", upstream="orders", cors_origins=["https://a.test"]),
}


PIPELINE = pipeline_of(make_settings(issuers=[], routes=list(ROUTES.values())), FakeClock())
HEAD = RequestHead("GET", b"/", True, (), Peer(b"192.0.2.1", False, 8080))


def section_of(*lines: bytes) -> bytes:
    return b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def read(block: bytes) -> tuple[Section, bytes | None] | None:
    return read_section(block, PIPELINE, HEAD)


def known(*lines: bytes) -> tuple[Section, bytes | None]:
    found = read(section_of(*lines))
    assert found is not None
    return found


def admitted(target: bytes, section: Section) -> Admitted:
    return PIPELINE.admit(HEAD._replace(target=target, headers=section.headers), section.facts, Record(0.0))
