"""The table ``[watch]``: what looks like abuse, and what happens then.

Declares the table. Checks that need several options are ``checks.py``'s.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from gateway.settings import values
from gateway.settings.tables.base import FeatureOptions, Section

_Count = Annotated[int, Field(ge=0, le=1_000_000)]
_AddressCount = Annotated[int, Field(ge=0, le=100)]

#: The options that each raise flags of their own.
FINDERS = ("bad_signatures", "unknown_kids", "unknown_api_keys", "token_addresses", "subject_addresses")


class Watch(Section):
    """What looks like abuse: each flag is a message in the log and a metric, and can be refused for a while (429). Each
    worker counts for itself."""

    note = """\
What a flag looks like, and what to consider before refusing clients: [abuse-watch.md](abuse-watch.md).
"""

    bad_signatures: _Count = 100
    """More bad signatures than this from one address, in a burst of `window_seconds`. 0 = off."""
    unknown_kids: Annotated[int, Field(ge=0, le=1000)] = 20
    """Tokens with more different unknown `kid`s than this from one address within `window_seconds`. 0 = off."""
    unknown_api_keys: _Count = 100
    """More unknown API keys than this from one address, in a burst of `window_seconds`. 0 = off."""
    token_addresses: _AddressCount = 0
    """One token used from more client addresses than this within `window_seconds`. 0 = off. When on, every request with
    a credential is checked, which takes time."""
    subject_addresses: _AddressCount = 0
    """One subject, or owner of API keys, seen at more client addresses than this within `window_seconds`. 0 = off. The
    cost is that of `token_addresses`."""
    window_seconds: Annotated[float, Field(ge=1, le=86400)] = 60
    """The time within which the others count."""
    refuse_seconds: Annotated[float, Field(ge=0, le=86400)] = 0
    """How long a flagged address, token or subject is refused: an address on all routes that look at credentials,
    before they do; a token or subject afterwards. 0 = reported only."""
    exempt: list[Annotated[str, AfterValidator(values.proxies)]] = []
    """CIDRs of client addresses that are never flagged: test machines, a company's egress; `unix`: clients of a Unix
    socket."""
    max_tracked: Annotated[int, Field(ge=100, le=1_000_000)] = 10_000
    """Addresses, tokens and subjects that each worker tracks, for each of the options above."""


class WatchTables(FeatureOptions):
    """The table ``[watch]`` of the whole configuration."""

    after: ClassVar[str] = "tokens"

    watch: Watch = Watch()
