"""Challenges and documents as a client of RFC 9728 reads them: strictly."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.support.gateways.running import RawResponse

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PARAMETER = re.compile(rf'({_TOKEN})="([\x20-\x21\x23-\x5b\x5d-\x7e]*)"')
_CHALLENGE = re.compile(rf"Bearer {_PARAMETER.pattern}(?:, {_PARAMETER.pattern})*")


def challenge_of(response: RawResponse) -> dict[str, str]:
    """Return the parameters of the one Bearer challenge; each stands at most once (RFC 9110 section 11.2)."""
    value = (response.one(b"www-authenticate") or b"").decode("ascii")
    assert _CHALLENGE.fullmatch(value), value
    pairs = _PARAMETER.findall(value)
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def document_of(response: RawResponse) -> dict[str, Any]:
    """Return the metadata, of an answer that every client can use."""
    assert response.status == 200
    assert response.one(b"content-type") == b"application/json"
    assert response.one(b"access-control-allow-origin") == b"*"
    assert (response.one(b"cache-control") or b"").startswith(b"public, max-age=")
    assert response.one(b"www-authenticate") is None
    value = json.loads(response.body)
    assert isinstance(value, dict)
    return value
