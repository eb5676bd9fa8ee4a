"""The access log of a connection that is refused again and again: each request has its line, with its values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.gateways.running import request, running_gateway
from tests.support.upstreams.recording import raw_upstream

ROUTES: list[dict[str, Any]] = [{"path": "/"}, {"path": "/scoped", "scopes": ["write"]}]


@pytest.mark.parametrize(
    ("target", "credential", "reason"),
    [
        ("/a?q=1", "none", "no_credential"),
        ("/a", "forged", "bad_signature"),
        ("/scoped", "good", "missing_scope"),
        ("/a%00b", "good", "bad_path"),
    ],
)
@pytest.mark.rule("R389")
async def test_each_refusal_of_a_connection_has_a_line_of_its_own(
    target: str, credential: str, reason: str, tmp_path: Path
) -> None:
    """The first is judged step by step, later ones may be known; what their lines say is the same."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=ROUTES) as gateway:
        good = gateway.token(sub="ann", scope="read")
        token = {"none": b"", "good": good, "forged": good[:-8] + b"AAAAAAAA"}[credential]
        client = await gateway.client()
        assert (await client.exchange(request(b"GET", "/a", token=good))).status == 200
        answers = [
            await client.exchange(request(b"GET", target, (b"X-Request-Id", b"id-%d" % number), token=token))
            for number in range(4)
        ]
        lines = (await gateway.log(5))[1:]
    assert [line.pop("request_id") for line in lines] == [f"id-{number}" for number in range(4)]
    for line, answer in zip(lines, answers, strict=True):
        assert line.pop("time")
        assert line.pop("duration_ms") >= 0
        assert (line["status"], line["bytes_out"]) == (answer.status, len(answer.body))
        assert (line["reason"], line["outcome"], line["client"]) == (reason, "refused", "127.0.0.1")
    # A bad token is judged once; what its first line says of the cache is true of no later one.
    same = lines[1:] if credential == "forged" else lines
    assert same == same[:1] * len(same)
    assert len(upstream.requests) == 1
