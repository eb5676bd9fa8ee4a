"""Looks at the files that options name, before anything depends on them.

No content of a file, and no name that may be content pasted by mistake, is in
what is returned.
"""

from __future__ import annotations

import ssl
from pathlib import Path


def read_problem(file: str) -> str:
    """Say why a file cannot be read; nothing when it can."""
    try:
        with Path(file).open("rb") as stream:
            stream.read(1)
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or "not a file name").lower()
        return f"this file cannot be read: {reason}"
    return ""


def certificate_problem(certificate: str, key: str) -> tuple[str, str] | None:
    """Say which of ``tls_cert`` and ``tls_key`` is wrong, and why; None when they fit."""
    for option, file in (("tls_cert", certificate), ("tls_key", key)):
        if problem := read_problem(file):
            return option, problem
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return "tls_key", "is not the key of the certificate in `tls_cert`"
        return "tls_cert", "with `tls_key` is no PEM certificate chain and its private key"
    except ValueError:
        return "tls_key", "is encrypted; the gateway asks nobody for a password"
    return None


def authorities_problem(file: str) -> str:
    """Say why a file is no bundle of certificate authorities; nothing when it is one."""
    if problem := read_problem(file):
        return problem
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    except ssl.SSLError:
        return "this file holds no PEM certificates"
    return ""


def _no_password() -> str:
    raise ValueError
