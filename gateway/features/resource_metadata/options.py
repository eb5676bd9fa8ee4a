"""The options of a protected resource (RFC 9728), and what follows from its identifier alone.

Declares ``[[resources]]``, checks single values, and derives the URL of the
metadata document. Which routes belong to a resource is ``routes.py``'s. The
danger of this file is an identifier with two readings: the text that clients
compare must name one host and one path.
"""

from __future__ import annotations

import re
from typing import Annotated, ClassVar
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import AfterValidator, Field

from gateway.settings import values
from gateway.settings.tables.base import FeatureOptions, Scope, Section

#: Where the documents are, in front of the path of the resource (RFC 9728 section 3).
WELL_KNOWN = "/.well-known/oauth-protected-resource"

# Segments of a path (RFC 3986 section 3.3) without parameters, which the rules for paths do not look at.
_PATH = re.compile(r"(?:/(?:[A-Za-z0-9\-._~!$&'()*+,=:@]|%[0-9A-Fa-f]{2})*)*").fullmatch
_NEVER_ENCODED = re.compile(r"%(?:2f|3b|5c|[01][0-9a-f]|7f)", re.IGNORECASE).search
_C1_CONTROL = re.compile("[\x80-\x9f]").search


def resource_identifier(text: str) -> str:
    """Check the identifier of a protected resource (RFC 9728 section 1.2); its text never changes."""
    path = _secure_url(text).path
    if not _PATH(path):
        raise ValueError("has a character in its path that no path may have, or a `;`")
    if _NEVER_ENCODED(path):
        raise ValueError("has an encoded slash, semicolon, backslash or control character in its path")
    try:
        decoded = unquote(path, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("has percent-encoding in its path that is not UTF-8") from None
    if _C1_CONTROL(decoded):
        raise ValueError("has an encoded slash, semicolon, backslash or control character in its path")
    if any(segment in (".", "..") for segment in decoded.split("/")):
        raise ValueError("has dot segments in its path, and requests with them are refused")
    if "//" in decoded:
        raise ValueError("has an empty segment in its path, and requests with one are refused")
    return text


def issuer_identifier(text: str) -> str:
    """Check the identifier of an authorization server (RFC 8414 section 2); its text never changes."""
    _secure_url(text)
    return text


def shown_text(text: str) -> str:
    """Check text for people; empty is "not given"."""
    if not text.isprintable() or len(text) > 200:
        raise ValueError("must be printable, up to 200 characters")
    return text


def _secure_url(text: str) -> SplitResult:
    """Return the parts of a URL whose content cannot be changed on the network: https, or http on loopback."""
    parts = values.http_url(text)
    if "?" in text:
        raise ValueError("has a query; an identifier is scheme, host, port and path")
    if parts.scheme != "https" and not values.is_loopback(parts.hostname or ""):
        raise ValueError("must begin with https://; http:// is for loopback only")
    return parts


class Resource(Section):
    """What clients know a part of this API by, and may read about it without a token (RFC 9728): who gives out tokens
    for it, and with which scopes."""

    note = """\
For clients that know nothing but the address of this API, such as those of MCP servers:
[resource-metadata.md](resource-metadata.md). A route belongs to the resource with the longest path that is a prefix of
its own and with a host that fits, or to the one that it names.
"""

    resource: Annotated[str, AfterValidator(resource_identifier), Field(examples=["https://api.example.com"])]
    """The identifier: the URL under which clients reach the resource, without query and fragment. The document says it
    exactly like this, and clients compare it byte for byte. `http://` is for loopback only."""
    authorization_servers: list[Annotated[str, AfterValidator(issuer_identifier)]] = []
    """Issuer identifiers of the servers that give out tokens for it. Empty: the first issuer value of every issuer that
    its routes accept."""
    scopes_supported: list[Scope] = []
    """Scopes that clients may ask for. Empty: those that its routes ask for, sorted."""
    name: Annotated[str, AfterValidator(shown_text)] = ""
    """Display name."""
    documentation: Annotated[str, AfterValidator(values.optional_http_url)] = ""
    """URL of a page for developers."""
    policy_uri: Annotated[str, AfterValidator(values.optional_http_url)] = ""
    """URL of a page that says what clients may do with the data."""
    tos_uri: Annotated[str, AfterValidator(values.optional_http_url)] = ""
    """URL of the terms of service."""


class ResourceTables(FeatureOptions):
    """The list of tables ``[[resources]]`` of the whole configuration."""

    after: ClassVar[str] = "routes"

    resources: list[Resource] = []


class ResourceRouteOptions(FeatureOptions):
    """What resources add to ``[[routes]]``."""

    after: ClassVar[str] = "revocation_failure"

    resource: str = ""
    """Identifier of the resource that this route is part of. Empty: the most specific of `resources` that fits."""


def resource_path(identifier: str) -> str:
    """Return the path of a checked identifier as the rules read paths: decoded; empty for ``/`` alone."""
    path = unquote(urlsplit(identifier).path, errors="strict")
    return "" if path == "/" else path


def resource_host(identifier: str) -> str:
    """Return the host of a checked identifier in the one spelling of hosts, without port."""
    name = urlsplit(identifier).hostname or ""
    return values.host(f"[{name}]" if ":" in name else name)


def document_path(identifier: str) -> str:
    """Return the path of the metadata document of a checked identifier, decoded (RFC 9728 section 3.1)."""
    return WELL_KNOWN + resource_path(identifier)


def document_url(identifier: str) -> str:
    """Return the URL of the metadata document of a checked identifier.

    The well-known path goes between host and path; a slash alone behind the
    host is left out (RFC 9728 section 3.1). It holds no character that a
    quoted string would have to escape.
    """
    parts = urlsplit(identifier)
    return f"{parts.scheme}://{parts.netloc}{WELL_KNOWN}{'' if parts.path == '/' else parts.path}"
