"""The table ``[revocation]``: where it is said which credentials are taken back.

Only its declaration lives here.
"""

from __future__ import annotations

from gateway.settings.section import Section


class Revocation(Section):
    """Which tokens are refused before they expire. Entries come from a file, from `[redis]`, or from both."""

    file: str = ""
    """A JSON object a line: `{"jti": ...}`, `{"sid": ...}` or `{"sub": ...}`, each with an optional `issuer`, `sub`
    with an optional `before`, or `{"issuer": ..., "before": ...}`; with an optional `expires`. Read again when it
    changes."""
    redis: bool = True
    """Take entries from `[redis]`, where its `url` is given."""
    admin_token_file: str = ""
    """File with a secret of at least 16 characters: whoever sends it as bearer token to `/revoke` on the admin port may
    revoke. Read anew for each call. Empty: there is no such call."""
