"""How certificates are verified, wherever the gateway does it.

Makes all contexts, so that verification is one decision and the same on every
Python: the chain, the name and the times. Python 3.13
made ``ssl.create_default_context`` stricter (``VERIFY_X509_STRICT``: key usage,
authority key identifiers), which refuses the private authorities of many
clusters, and let it end chains at any trusted certificate
(``VERIFY_X509_PARTIAL_CHAIN``). Neither is taken over here; a flag that a
later Python adds is not either until this file says so.
"""

from __future__ import annotations

import functools
import ssl

#: The one set of flags: what Python 3.11 and 3.12 verify by default (RFC 5280 section 6).
VERIFY_FLAGS = ssl.VerifyFlags.VERIFY_X509_TRUSTED_FIRST

#: RFC 9325 section 3.1.1.
MIN_TLS_VERSION = ssl.TLSVersion.TLSv1_2


def client_context(ca_file: str = "") -> ssl.SSLContext:
    """Return a context that verifies the chain and the name of a server.

    Args:
        ca_file: PEM bundle of authorities; the system's when it is empty.

    Raises:
        OSError: the file cannot be read or holds no certificates; ``ssl.SSLError`` is one.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # demands a certificate, and that it has the server's name
    _common(context)
    if ca_file:
        context.load_verify_locations(ca_file)
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    return context


@functools.cache
def system_context() -> ssl.SSLContext:
    """Return the one context for the system's authorities, to be used as it is: theirs are a hundred certificates."""
    context = client_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def base_server_context() -> ssl.SSLContext:
    """Return a context of a server, without a certificate so far, that asks clients for none so far."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _common(context)
    return context


def _common(context: ssl.SSLContext) -> None:
    context.verify_flags = VERIFY_FLAGS
    context.minimum_version = MIN_TLS_VERSION
    context.options |= ssl.OP_NO_COMPRESSION
