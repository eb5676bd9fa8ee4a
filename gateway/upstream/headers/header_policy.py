"""What each request header name means to the gateway.

This file has names only: their folding, the lists of names with a meaning, and the
``HeaderPolicy`` that says to the reader of heads what each name means. The danger of
this file is a spelling that the gateway takes for an unknown field and an upstream
takes for a protected one: CGI, WSGI and PHP read ``X_User_Id``, ``X.User.Id`` and
``X-User-Id`` as one name.

So names with anything but letters, digits and ``-`` are dropped, unless the
configuration lets them pass. Then a name is folded first: one that folds to a
protected name but is not spelled like it (letter case aside) is dropped, always.
Which names services believe is ``claimed_names.py``'s; every other name passes as
it is.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.http1.fields import HOP_BY_HOP
from gateway.http1.request_head import Meaning
from gateway.http1.trusted_proxies import FORWARDING, ForwardedFields, TrustedProxies
from gateway.settings.tables.root import Settings
from gateway.upstream.headers.claimed_names import is_claimed

#: Always made anew or left out, also for trusted proxies. In folded spelling.
DROPPED = HOP_BY_HOP | {
    # made by the gateway
    b"host",
    b"content-length",
    b"x-request-id",
    # answered by the gateway (RFC 9110 section 10.1.1)
    b"expect",
}

# Read by the core of the gateway; those among them that may pass are sent on as well.
_READ = frozenset(
    {
        b"access-control-request-headers",
        b"access-control-request-method",
        b"expect",
        b"max-forwards",
        b"origin",
        b"sec-websocket-key",
        b"sec-websocket-protocol",
        b"sec-websocket-version",
        b"upgrade",
        b"via",
    }
)

# The fields that the reader itself understands, whatever becomes of them.
_UNDERSTOOD = {
    b"connection": Meaning.CONNECTION,
    b"content-length": Meaning.CONTENT_LENGTH,
    b"host": Meaning.HOST,
    b"transfer-encoding": Meaning.TRANSFER_ENCODING,
    b"x-request-id": Meaning.REQUEST_ID,
}

# Credentials and their proofs: sent on by routes that say so.
_CREDENTIALS = frozenset({b"authorization", b"dpop"})

# Protected only against other spellings.
_EXACT = _CREDENTIALS | FORWARDING | {b"max-forwards", b"via"}

# Names of many requests: known from the start, in their usual spellings.
_USUAL = frozenset(
    b"accept accept-charset accept-encoding accept-language cache-control content-encoding content-type cookie date dnt"
    b" if-match if-modified-since if-none-match if-unmodified-since pragma priority range referer sec-ch-ua"
    b" sec-ch-ua-mobile sec-ch-ua-platform sec-fetch-dest sec-fetch-mode sec-fetch-site sec-fetch-user traceparent"
    b" tracestate user-agent x-requested-with".split()
)

#: All names by which fields mean something to the gateway itself, whatever the configuration. In folded spelling.
MEANINGFUL = DROPPED | _READ | _UNDERSTOOD.keys() | _EXACT

# Every byte to lower case if it is a letter or digit, else to "-".
_FOLDING = bytes(
    code if chr(code) in "abcdefghijklmnopqrstuvwxyz0123456789" else ord("-") for code in bytes(range(256)).lower()
)

# The only bytes of a name that every service reads as one name (R342).
_PLAIN = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-"


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
        reads: further fields that the gateway reads, in lower case.
        stripped: further names that no client's field passes under, folded.
        plain_only: names with anything but letters, digits and ``-`` are dropped.

    Attributes:
        identity_names, pseudonym, trusted, stripped: as given.
        usual: names that are worth knowing from the start, in lower case.
    """

    __slots__ = ("_plain_only", "_reads", "identity_names", "pseudonym", "stripped", "trusted", "usual")

    def __init__(
        self,
        identity_names: frozenset[bytes],
        pseudonym: bytes,
        trusted: TrustedProxies,
        reads: frozenset[bytes] = frozenset(),
        stripped: frozenset[bytes] = frozenset(),
        plain_only: bool = True,
    ) -> None:
        self.identity_names = identity_names
        self.pseudonym = pseudonym
        self.trusted = trusted
        self._reads = _READ | reads
        self.stripped = stripped
        self._plain_only = plain_only
        self.usual = _USUAL | _UNDERSTOOD.keys() | self._reads | _EXACT | DROPPED | identity_names

    def meaning(self, name: bytes) -> Meaning:
        """Return what a client's field of this name means, as spelled by the client."""
        lower = name.lower()
        if lower in _UNDERSTOOD:
            return _UNDERSTOOD[lower]
        passes = self._passes(name)
        if lower in _CREDENTIALS:
            if lower == b"authorization":
                return Meaning.AUTHORIZATION if passes else Meaning.AUTHORIZATION_TAKEN
            return Meaning.WITHHELD if passes else Meaning.TAKEN
        if lower in FORWARDING:
            return Meaning.FORWARDING if lower in self.trusted.fields else Meaning.DROPPED
        if lower in self._reads:
            return Meaning.READ if passes else Meaning.TAKEN
        return Meaning.KEPT if passes else Meaning.DROPPED

    def _passes(self, name: bytes) -> bool:
        """Return whether a client's field of this name may go upstream."""
        folded = fold(name)
        if folded in self.identity_names or folded in self.stripped:
            return False
        if self._plain_only and name.translate(None, _PLAIN):
            return False
        if folded in _EXACT:
            return name.lower() == folded
        return not (folded in DROPPED or is_claimed(folded))


def compile_header_policy(settings: Settings, pseudonym: bytes, reads: Iterable[bytes] = ()) -> HeaderPolicy:
    """Compile the header rules of a configuration, once.

    Args:
        settings: the whole configuration.
        pseudonym: this gateway's name in Via.
        reads: further fields that the gateway reads, in lower case.
    """
    server = settings.server
    certificate = server.client_certificate_header
    return header_policy(
        [*settings.identity, certificate] if certificate else settings.identity,
        pseudonym,
        server.trusted_proxies,
        [name.decode("ascii") for name in reads],
        fields=server.forwarded_fields,
        stripped=server.strip_headers,
        plain_only=server.underscore_headers == "drop",
    )


def header_policy(
    identity: Iterable[str],
    pseudonym: bytes,
    trusted_proxies: Iterable[str] = (),
    reads: Iterable[str] = (),
    *,
    fields: ForwardedFields = "x-forwarded",
    stripped: Iterable[str] = (),
    plain_only: bool = True,
) -> HeaderPolicy:
    """Compile header rules from what the options of these names hold; see ``HeaderPolicy``.

    Args:
        identity: names of the identity headers.
        trusted_proxies: CIDRs and ``unix``.
        reads: further names of fields that the gateway reads.
    """
    identity_names, stripped_names = (
        frozenset(fold(name.encode("ascii")) for name in given) for given in (identity, stripped)
    )
    trusted = TrustedProxies(trusted_proxies, fields)
    also_read = frozenset(name.lower().encode("ascii") for name in reads)
    return HeaderPolicy(identity_names, pseudonym, trusted, also_read, stripped_names, plain_only)
