"""Which address the keys may come from: the discovery document, judged.

Judges a discovery document and the addresses in it; nothing is fetched. The
danger of this file is that ``jwks_uri`` is an address chosen by another party,
which the gateway then visits from inside the network (CWE-918): whatever passes
here is fetched.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from gateway.errors import PREVIEW_CHARS, printable
from gateway.network_errors import WordedError

DISCOVERY_PATH = "/.well-known/openid-configuration"


class DiscoveryError(ValueError):
    """The discovery document, or an address in it, is not believed.

    Args:
        code: stable, for logs and status.
        message: for the operator; printable.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def discovery_url(issuer: str) -> URL:
    """Return where an issuer's metadata is: appended, with exactly one slash (OIDC Discovery 1.0 section 4).

    RFC 8414 section 3.1 inserts the well-known part before the path instead;
    providers that serve only that form need ``jwks_url``.

    Raises:
        DiscoveryError: when the issuer is no http(s) URL without query and fragment.
    """
    try:
        url = URL(issuer.rstrip("/") + DISCOVERY_PATH)
    except ValueError:
        url = URL()
    if url.scheme not in ("https", "http") or not url.host or "?" in issuer or "#" in issuer:
        raise DiscoveryError(
            "issuer_not_a_url",
            f'issuer "{printable(issuer, PREVIEW_CHARS)}" is not a URL, so its keys cannot be discovered:'
            " set jwks_url or jwks_file",
        )
    return url


def jwks_uri_of(document: dict[str, Any], issuer: str, *, allow_http: bool) -> URL:
    """Return the vetted ``jwks_uri`` of a discovery document.

    Args:
        document: the metadata, as parsed.
        issuer: the configured issuer. The document must name exactly this one
            (OIDC Discovery 1.0 section 4.3): it is what stops one provider's
            document from vouching for another's tokens.
        allow_http: the issuer's setting of that name.

    Raises:
        DiscoveryError: with both issuers when they differ; with the reason when the address is refused.
    """
    named = document.get("issuer")
    if named != issuer:
        shown = printable(named, PREVIEW_CHARS) if isinstance(named, str) else f"a {type(named).__name__}"
        raise DiscoveryError(
            "issuer_mismatch",
            f"the discovery document names issuer {shown}, configured is {printable(issuer, PREVIEW_CHARS)}:"
            " they must be identical",
        )
    uri = document.get("jwks_uri")
    if not isinstance(uri, str):
        raise DiscoveryError("jwks_uri_refused", "the discovery document has no jwks_uri")
    return vet_jwks_uri(uri, discovery_url(issuer), allow_http=allow_http)


def vet_jwks_uri(uri: str, issuer: URL, *, allow_http: bool) -> URL:
    """Return a discovered ``jwks_uri`` if it may be fetched (CWE-918).

    The result is what the client connects to: it is judged after parsing, by
    the client's own parser, so that no second reading of the text can differ.

    Raises:
        DiscoveryError: with the rule that the address breaks.
    """
    if any(not "!" <= character <= "~" or character == "\\" for character in uri):
        raise _refused(uri, "holds characters that no URL has")
    try:
        url = URL(uri)
        host, port = url.host, url.port
    except ValueError:
        raise _refused(uri, "is not a URL") from None
    if url.scheme not in ("https", "http") or not host or not port:
        raise _refused(uri, "is not an https URL")
    if url.scheme == "http" and not (allow_http or (issuer.scheme == "http" and is_local(issuer.host))):
        raise _refused(uri, "is not https")
    if "@" in uri.partition("://")[2].split("/")[0] or url.user is not None or url.password is not None:
        raise _refused(uri, "holds a user name")
    if "#" in uri:
        raise _refused(uri, "has a fragment")
    if host != issuer.host and is_local(host) and not is_local(issuer.host):
        raise _refused(
            uri, "has a private address although the issuer has a public one (set jwks_url if that is intended)"
        )
    return url


def is_local(host: str | None) -> bool:
    """Return whether a URL's host says by itself that it is not on the public internet.

    True for ``localhost`` and for every IP literal that is not global: private,
    loopback, link-local, carrier-grade NAT, reserved. Also for numbers that are
    no proper address (``127.1``, ``2130706433``): the client would not look
    them up but the system would read them as an address.
    """
    if not host:
        return False
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    if ":" in name or name.replace(".", "").isdigit():
        return not is_global(name)
    return False


def is_global(address: str) -> bool:
    """Return whether a textual IP address is a public unicast one, looking through IPv4-in-IPv6 forms."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None) or _nat64(ip)
        if inner is not None:
            ip = inner
    return ip.is_global and not ip.is_multicast


class GuardedResolver(AbstractResolver):
    """Looks names up, and refuses private addresses for hosts that only a document named (DNS rebinding).

    Args:
        trusted_host: the issuer's own host, from the configuration: its addresses are the operator's choice.
        resolver: what really looks names up; None for the system.
    """

    def __init__(self, trusted_host: str, resolver: AbstractResolver | None = None) -> None:
        self._trusted_host = trusted_host
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        if self._resolver is None:  # not in __init__: it needs the running event loop
            self._resolver = ThreadedResolver()
        found = await self._resolver.resolve(host, port, family)
        if host == self._trusted_host:
            return found
        public = [result for result in found if is_global(result["host"])]
        if not public:
            shown = printable(host, PREVIEW_CHARS)
            raise WordedError(f"{shown} has no public address (set jwks_url if that is intended)")
        return public

    async def close(self) -> None:
        if self._resolver is not None:
            await self._resolver.close()


def _refused(uri: str, rule: str) -> DiscoveryError:
    # Without userinfo and query: neither belongs in a log.
    place = uri.partition("?")[0]
    scheme, separator, rest = place.partition("://")
    authority, slash, path = rest.partition("/")
    shown = scheme + separator + authority.rpartition("@")[2] + slash + path
    return DiscoveryError("jwks_uri_refused", f"jwks_uri {printable(shown, PREVIEW_CHARS)} {rule}")


def _nat64(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Return the address inside the well-known NAT64 prefix (RFC 6052 section 2.1)."""
    if ip in ipaddress.IPv6Network("64:ff9b::/96"):
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return None
