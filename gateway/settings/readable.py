"""Looks at the files that options name, before anything depends on them.

No content of a file, and no name that may be content pasted by mistake, is in
what is returned.
"""

from __future__ import annotations

import codecs
import os
import ssl
import stat
from pathlib import Path

#: The byte order mark of UTF-8, and the first bytes of those of UTF-16 and UTF-32 (RFC 3629 section 6, Unicode 23.8).
MARK = codecs.BOM_UTF8
_WIDE_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)


def read_regular(file: str, most: int) -> bytes:
    """Return the content of a regular file. A pipe or device at this path must not block indefinitely.

    Raises:
        ValueError: why it cannot be read, or that it has more than ``most`` bytes.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ValueError("not a regular file")
            data = stream.read(most + 1)
    except OSError as error:
        raise ValueError(f"this file cannot be read: {(error.strerror or '').lower()}") from None
    except ValueError as error:
        raise ValueError(f"this file cannot be read: {error}") from None
    if len(data) > most:
        raise ValueError(f"this file has more than {most} bytes")
    return data


def without_mark(data: bytes) -> bytes:
    """Return the UTF-8 text of a file without the byte order mark that some editors write in front of it.

    Raises:
        ValueError: it is text in UTF-16 or UTF-32, which nothing here reads.
    """
    if data.startswith(_WIDE_MARKS) or (len(data) > 3 and 0 in data[:2]):
        raise ValueError("is text in UTF-16 or UTF-32: save it as UTF-8")
    return data.removeprefix(MARK)


def read_problem(file: str) -> str:
    """Say why a file cannot be read; nothing when it can."""
    try:
        with Path(file).open("rb") as stream:
            stream.read(1)
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or "not a file name").lower()
        return f"this file cannot be read: {reason}"
    return ""


def certificate_problem(
    certificate: str, key: str, options: tuple[str, str] = ("tls_cert", "tls_key")
) -> tuple[str, str] | None:
    """Say which of the two options for a certificate and its key is wrong, and why; None when they fit."""
    cert_option, key_option = options
    for option, file in ((cert_option, certificate), (key_option, key)):
        if problem := _pem_problem(file):
            return option, problem
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return key_option, f"is not the key of the certificate in `{cert_option}`"
        return cert_option, f"and `{key_option}` do not form a PEM certificate chain and its private key"
    except ValueError:
        return key_option, "is encrypted; encrypted keys are not supported: decrypt it"
    return None


def authorities_problem(file: str) -> str:
    """Say why a file is no bundle of certificate authorities; nothing when it is one."""
    if problem := _pem_problem(file):
        return problem
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    except ssl.SSLError:
        return "this file holds no PEM certificates"
    return ""


def _pem_problem(file: str) -> str:
    """Say why OpenSSL would not read all of a file: behind a byte order mark it misses the first entry."""
    if problem := read_problem(file):
        return problem
    with Path(file).open("rb") as stream:
        marked = stream.read(len(MARK)).startswith((MARK, *_WIDE_MARKS[:2]))
    return "this file begins with a byte order mark: save it as plain ASCII" if marked else ""


def _no_password() -> str:
    raise ValueError
