"""API keys on the metrics and status pages, and kept up with while the gateway runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.features.api_keys.keys import KEY_FILE_LOOK_SECONDS
from gateway.features.api_keys.part import ApiKeysPart
from tests.server.admin.test_collector import scrape, value
from tests.support.clock import FakeClock, eventually, settle
from tests.support.composed import Tokens
from tests.support.gateways.running import running_gateway
from tests.support.parts import samples_of
from tests.support.pipeline import core_of
from tests.support.tokens.api_keys import KEY, OTHER, entry, write_keys
from tests.support.tokens.verifying import make_settings
from tests.support.upstreams.recording import raw_upstream

KEYS, FAILURES = ("gateway_api_keys",), ("gateway_api_key_reload_failures_total",)


@pytest.mark.rule("R198")
async def test_credentials_and_keys_are_counted_without_a_name(tmp_path: Path) -> None:
    """The kinds of credentials are a fixed set; a key's id and owner are no labels."""
    routes: tuple[dict[str, Any], ...] = ({"path": "/", "credentials": ["jwt", "api_key"]},)
    keys = [entry(owner="somebody"), entry(OTHER, "another")]
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=routes, api_keys=keys) as gateway,
    ):
        before = await scrape(gateway)
        for key in (KEY, OTHER, b"unknown"):
            await gateway.get("/", (b"X-Api-Key", key))
        for _ in range(2):
            await gateway.get("/", token=gateway.token())
        await gateway.settled()
        samples = await scrape(gateway)
    assert value(before, "gateway_api_keys") == 2
    assert [value(before, "gateway_credential_lookups_total", kind=kind) for kind in ("jwt", "api_key")] == [0, 0]
    assert [value(samples, "gateway_credential_lookups_total", kind=kind) for kind in ("jwt", "api_key")] == [2, 3]
    assert value(samples, "gateway_api_key_reload_failures_total") == 0
    assert value(samples, "gateway_refusals_total", reason="unknown_api_key") == 1
    labels = {text for found in samples.values() for sample in found for text in sample.labels.values()}
    assert not labels & {"partner", "another", "somebody"}


async def test_the_file_is_kept_up_with_from_start_to_stop(tmp_path: Path) -> None:
    file, clock = tmp_path / "keys", FakeClock()
    write_keys(file, entry())
    part = ApiKeysPart(core_of(make_settings(tokens=Tokens(api_keys_file=str(file))), clock))
    await part.start()
    assert samples_of(part) == {KEYS: 1, FAILURES: 0}
    for version, wanted in (
        ((entry(), entry(OTHER, "other")), {KEYS: 2, FAILURES: 0}),
        (("no key",), {KEYS: 2, FAILURES: 1}),
    ):
        write_keys(file, *version)
        for _ in range(3):  # what has just been written is looked at once more
            await clock.advance(KEY_FILE_LOOK_SECONDS)
            await settle()
        await eventually(lambda wanted=wanted: samples_of(part) == wanted)  # type: ignore[misc]
    assert part.status() == {"api_keys": part.keys.status()}
    assert part.status()["api_keys"]["keys"] == 2
    await part.stop()
    assert not clock.naps
