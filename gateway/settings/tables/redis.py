"""The table ``[redis]``: where gateways keep what they share.

This file has its declaration and the check of its address. The danger is the
password that an address may hold: no message, and no ``repr``, shows it.
"""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from gateway.settings import values
from gateway.settings.tables.base import Section

_DATABASE = re.compile(r"/?|/[0-9]{1,5}")


def redis_url(text: str) -> str:
    """Check the address of a Redis server; empty is "not given".

    The forms are those that redis-py reads, without its further options in the query.
    """
    if not text:
        return text
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        raise ValueError("is not a URL: printable ASCII without spaces and backslashes; others are written as %XX")
    if "?" in text or "#" in text:
        raise ValueError("has a query or fragment; in a password ? and # are written %3F and %23")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError("is not a URL: its host or port is malformed") from None
    if parts.scheme == "unix":
        if not parts.path.startswith("/") or parts.path.endswith("/") or parts.hostname:
            raise ValueError("a socket is written unix:///absolute/path")
        return text
    if parts.scheme not in ("redis", "rediss"):
        raise ValueError("must begin with redis://, rediss:// (TLS) or unix://")
    if not parts.hostname or parts.netloc.endswith(":") or port == 0:
        raise ValueError("is not a URL: its host or port is missing")
    values.host(f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname)
    if not _DATABASE.fullmatch(parts.path):
        raise ValueError("has a path that is not a database number: write redis://host:port/0")
    return text


def sentinel_url(text: str) -> str:
    """Check the address of a Sentinel: that of a server on the network, without the number of a database."""
    if not text or text.startswith("unix:"):
        raise ValueError("must begin with redis:// or rediss:// (TLS)")
    if urlsplit(redis_url(text)).path.strip("/"):
        raise ValueError("has a path: a Sentinel has no databases")
    return text


class Redis(Section):
    """A Redis server, for what several gateways and workers share. What happens while it is unavailable is said where
    it is used; nothing waits for it."""

    url: Annotated[str, AfterValidator(redis_url), Field(repr=False)] = ""
    """`redis://host:port/0`, `rediss://` for TLS, or `unix:///path`; with `user:password@` before the host if the
    server wants that. Empty: none."""
    timeout_seconds: Annotated[float, Field(ge=0.01, le=10)] = 0.1
    """Timeout of one command: waiting for a free connection, connecting and the answer together."""
    tls_ca_file: str = ""
    """PEM bundle for the certificate of a `rediss://` server, instead of the system's authorities."""
    tls_client_cert: str = ""
    """PEM certificate chain that a `rediss://` server is shown, if it asks for one."""
    tls_client_key: str = ""
    """The private key of `tls_client_cert`, in PEM and not encrypted."""
    sentinels: Annotated[list[Annotated[str, AfterValidator(sentinel_url)]], Field(repr=False)] = []
    """Redis Sentinels, which say where the master is: `redis://host:26379` each, or `rediss://`, with
    `user:password@` if they want that. The host of `url` is then the name of the master, such as `redis://mymaster/0`,
    and has no port."""
