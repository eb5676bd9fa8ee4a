"""What each request header name means to the gateway.

This file has names only: their folding, the lists of names with a meaning, and
the compiled ``HeaderPolicy`` that answers "what is to be done with this field?"
in one dictionary look-up. The danger of this file is a spelling that the
gateway takes for an unknown field and an upstream takes for a protected one:
CGI, WSGI and PHP read ``X_User_Id``, ``X.User.Id`` and ``X-User-Id`` as one
name.

So names with anything but letters, digits and ``-`` are dropped, unless the
configuration lets them pass. Then a name is folded first: one that folds to a
protected name but is not spelled like it (letter case aside) is dropped, always.
Which names services believe is ``claimed_names.py``'s; every other name passes as
it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

from gateway.http1.trusted_proxies import FORWARDING, ForwardedFields, TrustedProxies
from gateway.settings.tables.root import Settings
from gateway.upstream.headers.claimed_names import is_claimed


class Action(IntEnum):
    """What becomes of a client's field."""

    KEEP = 0  # falsy: the hot loop asks only whether there is anything to do
    DROP = 1
    CONNECTION = 2  # dropped, after the names that it nominates
    AUTHORIZATION = 3  # dropped, unless the route sends it on: the credential, or its proof
    FORWARDING = 4  # dropped, but read first when a trusted proxy sent it


#: Fields between two neighbours (RFC 9110 section 7.6.1), and those that went with older ones.
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"http2-settings",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)

#: Always made anew or left out, whatever the client sent. In folded spelling.
DROPPED = HOP_BY_HOP | {
    # made by the gateway
    b"host",
    b"content-length",
    b"x-request-id",
    # answered by the gateway (RFC 9110 section 10.1.1)
    b"expect",
}

# Sent on, and read by the gateway as well.
_READ_TOO = frozenset(
    {
        b"access-control-request-headers",
        b"access-control-request-method",
        b"max-forwards",
        b"origin",
        b"sec-websocket-protocol",
        b"via",
    }
)

# Protected only against other spellings.
_EXACT: dict[bytes, Action] = {
    b"authorization": Action.AUTHORIZATION,
    b"dpop": Action.AUTHORIZATION,
    b"connection": Action.CONNECTION,
    b"max-forwards": Action.KEEP,
    b"via": Action.KEEP,
    **dict.fromkeys(FORWARDING, Action.FORWARDING),
}

#: All names by which fields mean something to the gateway itself, whatever the configuration. In folded spelling.
MEANINGFUL = frozenset(DROPPED | _READ_TOO | _EXACT.keys())

# Every byte to lower case if it is a letter or digit, else to "-".
_FOLDING = bytes(
    code if chr(code) in "abcdefghijklmnopqrstuvwxyz0123456789" else ord("-") for code in bytes(range(256)).lower()
)

# The only bytes of a name that every service reads as one name (R342).
_PLAIN = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-"

#: Names whose action is remembered, and how long they may be: the memory is the clients' to fill.
_MAX_REMEMBERED = 1024
_MAX_REMEMBERED_NAME = 64


def fold(name: bytes) -> bytes:
    """Return one name for every spelling that an upstream may read as the same.

    Lower case, every byte but letters and digits as ``-``, and without a
    leading ``HTTP_``, which CGI puts before names, or ``Grpc-Metadata-``,
    which grpc-gateway takes off: ``X_User.ID``, ``HTTP_X_USER_ID`` and
    ``Grpc-Metadata-X-User-Id`` are ``x-user-id``.
    """
    return name.translate(_FOLDING).removeprefix(b"http-").removeprefix(b"grpc-metadata-")


class HeaderPolicy:
    """Everything about header fields that the configuration decides.

    Args:
        identity_names: the ``[identity]`` headers, and the one that holds a client's certificate, folded. No client's
            field of such a name passes.
        pseudonym: the gateway's name in Via (RFC 9110 section 7.6.3).
        trusted: the proxies whose forwarding fields are believed.
        key_names: the fields that hold an API key on some route, folded.
        stripped: further names that no client's field passes under, folded.
        plain_only: names with anything but letters, digits and ``-`` are dropped.

    Attributes:
        actions: what was found out about names so far, bounded and emptied when full; see ``learn``. The rules
            themselves never change.
        identity_names, key_names, pseudonym, trusted: as given.
    """

    __slots__ = ("_plain_only", "_stripped", "actions", "identity_names", "key_names", "pseudonym", "trusted")

    def __init__(
        self,
        identity_names: frozenset[bytes],
        pseudonym: bytes,
        trusted: TrustedProxies,
        key_names: frozenset[bytes] = frozenset(),
        stripped: frozenset[bytes] = frozenset(),
        plain_only: bool = True,
    ) -> None:
        self.identity_names = identity_names
        self.pseudonym = pseudonym
        self.trusted = trusted
        self.key_names = key_names
        self._stripped = stripped
        self._plain_only = plain_only
        self.actions: dict[bytes, Action] = {}

    def learn(self, name: bytes) -> Action:
        """Find out what becomes of a client's field of this name, and remember it in ``actions``."""
        action = self._decide(name)
        if len(name) <= _MAX_REMEMBERED_NAME:
            if len(self.actions) >= _MAX_REMEMBERED:
                self.actions.clear()
            self.actions[name] = action
        return action

    def blind_to(self, name: bytes) -> bool:
        """Return whether a client's field of this name is sent on as it is, and nothing follows from its value."""
        return not self.learn(name) and name.lower() not in _READ_TOO and fold(name) not in self.key_names

    def _decide(self, name: bytes) -> Action:
        folded = fold(name)
        if folded in self.identity_names or folded in self._stripped:
            return Action.DROP
        if self._plain_only and name.translate(None, _PLAIN):
            return Action.DROP
        exact = _EXACT.get(folded)
        if exact is not None:
            return exact if name.lower() == folded else Action.DROP
        if folded in DROPPED or is_claimed(folded):
            return Action.DROP
        return Action.KEEP


def compile_header_policy(settings: Settings, pseudonym: bytes, credentials: Iterable[bytes] = ()) -> HeaderPolicy:
    """Compile the header rules of a configuration, once.

    Args:
        settings: the whole configuration.
        pseudonym: this gateway's name in Via.
        credentials: names of fields that hold a credential on some route.
    """
    server = settings.server
    keys = [field.decode("ascii") for field in credentials]
    certificate = server.client_certificate_header
    return header_policy(
        [*settings.identity, certificate] if certificate else settings.identity,
        pseudonym,
        server.trusted_proxies,
        keys,
        fields=server.forwarded_fields,
        stripped=server.strip_headers,
        plain_only=server.underscore_headers == "drop",
    )


def header_policy(
    identity: Iterable[str],
    pseudonym: bytes,
    trusted_proxies: Iterable[str] = (),
    keys: Iterable[str] = (),
    *,
    fields: ForwardedFields = "x-forwarded",
    stripped: Iterable[str] = (),
    plain_only: bool = True,
) -> HeaderPolicy:
    """Compile header rules from what the options of these names hold; see ``HeaderPolicy``.

    Args:
        identity: names of the identity headers.
        trusted_proxies: CIDRs and ``unix``.
        keys: names of fields that hold credentials.
    """
    identity_names, key_names, stripped_names = (
        frozenset(fold(name.encode("ascii")) for name in given) for given in (identity, keys, stripped)
    )
    trusted = TrustedProxies(trusted_proxies, fields)
    return HeaderPolicy(identity_names, pseudonym, trusted, key_names, stripped_names, plain_only)
