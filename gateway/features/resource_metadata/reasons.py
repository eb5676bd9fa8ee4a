"""The reasons for which a request for a metadata document is refused."""

from __future__ import annotations

from gateway.errors import READ_ONLY, Reason

DOCUMENT_METHOD = Reason("document_method", READ_ONLY)

#: All of them.
REASONS = (DOCUMENT_METHOD,)
