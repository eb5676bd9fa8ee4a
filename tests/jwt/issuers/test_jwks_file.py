"""``gateway/jwt/issuers/key_sources.py``: keys from a file, and the import of large sets."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from gateway.jwt.issuers import key_sources as jwks_fetch
from gateway.jwt.issuers.key_sources import make_source
from gateway.jwt.jose.keys import MAX_KEY_SET_BYTES, KeySet, import_jwks
from gateway.outbound.http import FetchError
from tests.support.issuers.fetching import failure, fetch, kids
from tests.support.issuers.identity_provider import Answer, FakeIdp, issuer_settings
from tests.support.tokens.minting import SigningKey, jwks

A, B = SigningKey.ec("a"), SigningKey.ec("b")


async def test_a_file_is_read_and_read_again_when_it_changes(tmp_path: Path) -> None:
    """Contract: jwks_file holds a JWKS or PEM."""
    file = tmp_path / "keys"
    file.write_bytes(jwks(A))
    source = make_source(issuer_settings(jwks_file=str(file)))
    first = await source.fetch(discover=True)
    assert (kids(first), first.lifetime, source.url) == (["a"], 5, str(file))
    assert (await source.fetch(discover=False)).keys is None
    before = file.stat()
    file.write_bytes(jwks(SigningKey.ec("c")))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert kids(await source.fetch(discover=True)) == ["c"]  # same size, same time: content decides
    replacement = tmp_path / "new"
    replacement.write_bytes(B.public_bytes())
    replacement.rename(file)
    pem = await fetch(source)
    assert pem.keys is not None
    assert [key.kid for key in pem.keys.keys] == [None]


@pytest.mark.rule("C30")
async def test_a_broken_file_is_a_failure_until_it_is_mended(tmp_path: Path) -> None:
    """What holds for addresses holds for files."""
    file = tmp_path / "keys"
    file.write_bytes(jwks(A))
    source = make_source(issuer_settings(jwks_file=str(file), jwks_refresh_seconds=2))
    assert (await source.fetch(discover=True)).lifetime == 2
    for content in (b"", b"{", b"-----BEGIN PUBLIC KEY-----\njunk\n-----END PUBLIC KEY-----\n"):
        file.write_bytes(content)
        with pytest.raises(FetchError) as caught:
            await source.fetch(discover=True)
        assert caught.value.code == "bad_key_set"
    file.write_bytes(jwks(A))
    assert (await fetch(source)).keys is None


async def test_what_is_no_readable_regular_file_is_a_failure(tmp_path: Path) -> None:
    """A pipe must not block the gateway, a device must not fill it."""
    pipe, large = tmp_path / "pipe", tmp_path / "large"
    os.mkfifo(pipe)
    large.write_bytes(b" " * (MAX_KEY_SET_BYTES + 1))
    for path, code in (
        (pipe, "file"),
        (tmp_path, "file"),
        (tmp_path / "absent", "file"),
        (Path("/dev/zero"), "file"),
        (large, "too_large"),
    ):
        assert (await failure(jwks_file=str(path))).code == code


@pytest.mark.rule("R156", "R175")
async def test_a_large_set_is_imported_beside_the_event_loop(idp: FakeIdp, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred keys cost 30 ms; the rest is cut. A usual set is not worth a thread."""
    threads: list[threading.Thread] = []

    def spy(data: bytes) -> KeySet:
        threads.append(threading.current_thread())
        return import_jwks(data)

    monkeypatch.setattr(jwks_fetch, "import_jwks", spy)
    usual = await fetch(make_source(issuer_settings(jwks_url=idp.jwks_url)))
    members = [SigningKey.rsa("k").public_jwk(kid=f"k{number}") for number in range(150)]
    idp.keys_answer = Answer(json.dumps({"keys": members}).encode())
    large = await fetch(make_source(issuer_settings(jwks_url=idp.jwks_url)))
    assert (len(kids(usual)), len(kids(large))) == (1, 100)
    assert [thread is threading.main_thread() for thread in threads] == [True, False]
