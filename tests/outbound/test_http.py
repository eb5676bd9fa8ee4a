"""The session of one provider: what both its users rely on. Their tests show it at work over real sockets."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from gateway.outbound.http import FetchError, ProviderSession, shown_url, translated
from tests.support.issuers.identity_provider import private_authority

PLACE = URL("https://idp.test/jwks?key=s3cr3t")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TimeoutError(), "timeout"),
        (ConnectionResetError("x"), "connect"),
        (aiohttp.ServerDisconnectedError(), "connect"),
        (aiohttp.ClientPayloadError("x"), "protocol"),
        (ValueError("x"), "protocol"),
    ],
)
def test_every_error_of_the_library_has_a_code(error: Exception, code: str) -> None:
    with pytest.raises(FetchError) as caught, translated(PLACE):
        raise error
    assert (caught.value.code, "s3cr3t" in str(caught.value)) == (code, False)


def test_query_of_an_address_is_not_shown() -> None:
    assert shown_url(PLACE) == "https://idp.test/jwks"


async def test_session_is_made_anew_when_the_authorities_change(tmp_path: Path) -> None:
    bundle, _ = private_authority(tmp_path)
    provider = ProviderSession(timeout=1, connections=3, ca_file=str(bundle), ca_option="some_ca_file")
    sessions = await asyncio.gather(*(provider.open() for _ in range(5)))
    assert len(set(sessions)) == 1
    connector = sessions[0].connector
    assert connector is not None
    assert connector.limit == 3
    assert isinstance(connector._ssl, ssl.SSLContext)  # type: ignore[attr-defined]
    bundle.write_text(bundle.read_text() + "\n")
    changed = await provider.open()
    assert (changed is sessions[0], sessions[0].closed, changed.closed) == (False, True, False)
    assert await provider.open() is changed
    await provider.close()
    await provider.close()
    assert changed.closed


async def test_authorities_that_cannot_be_used_are_named_by_their_option(tmp_path: Path) -> None:
    for content in (None, "nothing"):
        if content is not None:
            (tmp_path / "ca.pem").write_text(content)
        provider = ProviderSession(timeout=1, connections=1, ca_file=str(tmp_path / "ca.pem"), ca_option="some_ca_file")
        with pytest.raises(FetchError, match="some_ca_file") as caught:
            await provider.open()
        assert caught.value.code == "ca_file"
