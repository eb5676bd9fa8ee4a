"""The table ``[revocation]``: where revocations are read from.

Declares the table and nothing else.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from gateway.settings.tables.base import FeatureOptions, Section


class Revocation(Section):
    """Which tokens are refused before they expire. Entries come from a file, from `[redis]`, or from both."""

    file: str = ""
    """One JSON object per line: `{"jti": ...}`, `{"sid": ...}` or `{"sub": ...}`, each with an optional `issuer`, `sub`
    with an optional `before`, or `{"issuer": ..., "before": ...}`; with an optional `expires`. Read again when it
    changes."""
    redis: bool = True
    """Take entries from `[redis]`, where its `url` is given."""
    max_age_seconds: Annotated[float, Field(ge=1, le=86400)] = 60
    """Revocations that were last read longer ago than this count as unknown, and `revocation_failure` of the routes
    decides. The file is looked at four times a second; so this is how long it may be missing or wrong. Redis counts as
    unknown after 0.6 seconds without a good answer, whatever this says."""
    admin_token_file: str = ""
    """File with a secret of at least 16 characters, which requests to `/revoke` on the admin port must have as bearer
    token. Read anew for each request. Empty: `/revoke` does not exist."""


class RevocationTables(FeatureOptions):
    """The table ``[revocation]`` of the whole configuration."""

    after: ClassVar[str] = "redis"

    revocation: Revocation = Revocation()
