"""Which routes the express lane may serve, by their options: a positive list, and everything else is no.

This file has the core's list, and the comparison of a route with it; a feature says which of its own options belong
to it. The danger of this file is a name that is here too early: what the express lane does for such a route must
follow from steps that it takes. An option that is not listed, or new, sends its routes the long way, which is right
and slower.
"""

from __future__ import annotations

from gateway.settings.tables.routes import RouteSettings

#: Options of which it may remember, for one connection, what follows from any value: all of them are part of the route
#: that is found, or of rules that are asked each time.
REMEMBERED = frozenset(
    {
        "allow_encoded_slash",
        "any_scopes",
        "api_key_header",
        "auth",
        "claims",
        "credentials",
        "hosts",
        "issuers",
        "match",
        "methods",
        "path",
        "revocation_failure",
        "scopes",
        "strip_prefix",
        "upstream",
        "websocket",
        "websocket_max_message_bytes",
        "websocket_protocol_token",
    }
)

#: Options that its steps serve, each time anew: what follows from them depends on more than a head and its token.
SERVED = REMEMBERED | {"forward_authorization", "observe", "sender_constrained"}


def is_within(route: RouteSettings, options: frozenset[str]) -> bool:
    """Return whether all options of a route that are not as by default are among these."""
    for name, field in type(route).model_fields.items():
        changed = field.is_required() or getattr(route, name) != field.get_default(call_default_factory=True)
        if changed and name not in options:
            return False
    return True
