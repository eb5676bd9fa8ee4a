"""Issuers with a hole for the tenant: what such a template is, which texts fit it, and how it is filled.

This file has pure functions of text. The danger of this file is where the
tenant comes from: from the ``iss`` of a token that is not yet verified. It is
put into an address that the gateway fetches (CWE-918). So a tenant is one whole
segment of a path, made of few characters, and a part of a host name only where
the configuration lists every tenant.
"""

from __future__ import annotations

import re
from typing import NamedTuple

#: What stands for the tenant; ``{tenantid}`` is how Microsoft writes it.
PLACEHOLDERS = ("{tenant}", "{tenantid}")

#: The longest tenant, in characters.
MAX_TENANT = 128

#: Most variable repetitions in a pattern: each multiplies the time that a hostile text can take.
_MAX_REPETITIONS = 3

# No slash, percent sign, colon or "@"; a letter or digit at both ends, so no dot segments.
_TENANT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?")
_HOST_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_ATOMS = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]")


class Template(NamedTuple):
    """An ``iss`` value with one placeholder.

    Attributes:
        before, after: the text around it.
        in_host: it is a label of the host name.
    """

    before: str
    after: str
    in_host: bool

    def fill(self, tenant: str) -> str:
        """Return the ``iss`` of a tenant."""
        return self.before + tenant + self.after

    def tenant_of(self, issuer: str) -> str | None:
        """Return the tenant that an ``iss`` names; None when it does not fit, or when that can be no tenant."""
        start, end = len(self.before), len(issuer) - len(self.after)
        if start < end <= start + MAX_TENANT and issuer.startswith(self.before) and issuer.endswith(self.after):
            tenant = issuer[start:end]
            return tenant if _TENANT.fullmatch(tenant) else None
        return None


def placeholder_in(text: str) -> str:
    """Return the placeholder that a text holds; empty when it is no template."""
    return next((name for name in PLACEHOLDERS if name in text), "")


def fill(text: str, tenant: str) -> str:
    """Return a text with every placeholder replaced."""
    for name in PLACEHOLDERS:
        text = text.replace(name, tenant)
    return text


def split(text: str) -> Template:
    """Return the parts of a sound template."""
    before, _, after = text.partition(placeholder_in(text))
    return Template(before, after, "/" not in before.partition("://")[2])


def template_problem(text: str) -> str:
    """Say what keeps a text with a placeholder from being a template; empty when it is one."""
    name = placeholder_in(text)
    scheme, _, rest = text.partition("://")
    if scheme not in ("https", "http"):
        return "is a template, so it must begin with https:// or http://"
    if text.count(name) > 1 or "{" in text.replace(name, "") or "}" in text.replace(name, ""):
        return f"must have exactly one placeholder, {name}"
    authority, _, path = rest.partition("/")
    if name not in (*authority.partition(":")[0].split("."), *path.split("/")):
        return f"must have {name} as a whole segment of its path, or as a whole label of its host"
    if "?" in text or "#" in text:
        return "has a query or a fragment, and tenants are distinguished by paths"
    return ""


def overlap(one: str, other: str) -> bool:
    """Tell whether one ``iss`` could fit two templates, whatever their tenants are."""
    segments, others = one.split("/"), other.split("/")
    return len(segments) == len(others) and all(
        segment == its or placeholder_in(segment) or placeholder_in(its)
        for segment, its in zip(segments, others, strict=True)
    )


def tenant_name(text: str) -> str:
    """Check the name of a tenant."""
    if not _TENANT.fullmatch(text):
        raise ValueError(
            f"is not a tenant, as in the `iss` of its tokens: up to {MAX_TENANT} letters and digits, with . _ - between"
        )
    return text


def host_label(tenant: str) -> bool:
    """Tell whether a tenant can be a label of a host name, spelled in its one way (RFC 1123 section 2.1)."""
    return _HOST_LABEL.fullmatch(tenant) is not None


def tenant_pattern(text: str) -> str:
    """Check a pattern of tenants; empty is "not given".

    Any client chooses the text that it is compared with. So only what is
    compared in a short time is taken: no group repeats, at most three
    repetitions have no fixed count, and nothing refers back.
    """
    if not text:
        return text
    try:
        compiled = re.compile(text)
    except (re.error, RecursionError, OverflowError):
        raise ValueError("is not a valid regular expression") from None
    plain = _ATOMS.sub("a", text)
    if compiled.flags != re.UNICODE or "(?P=" in plain or re.search(r"\\[1-9]", text):
        raise ValueError("has flags or refers back to a group: write the pattern out")
    if re.search(r"\)[*+{]", plain):
        raise ValueError("repeats a group, which can backtrack without end: write the pattern out")
    if len(re.findall(r"[*+]|\{\d*,\d*\}", plain)) > _MAX_REPETITIONS:
        raise ValueError(f"has more than {_MAX_REPETITIONS} open repetitions, which can backtrack without end")
    return text
