"""The challenges of a refusal: what ``WWW-Authenticate`` says on a route.

Makes them (RFC 6750 section 3, RFC 9110 section 11.6.1). Every parameter is a
quoted string of characters that need no escape: realm, scopes and URLs are
checked when the configuration is loaded, and nothing comes from a request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gateway.errors import MISSING_TOKEN, Challenge, GatewayError, Reason, Reasons


class OtherKind(NamedTuple):
    """A kind of credential that has a request field of its own.

    Attributes:
        title: for people, with its article.
        scheme: of its challenge; no registered one: it says what is wanted, and its errors are in the body only.
    """

    title: str
    scheme: str


class RouteChallenges(NamedTuple):
    """What the challenges of a route's refusals say.

    Attributes:
        bearer: tokens would do.
        schemes: those under which tokens may be sent, in the order in which they are named.
        others: the other kinds that would do.
        parameters: by scheme, what stands behind the realm; with the empty scheme, at the end of each for tokens.
    """

    bearer: bool = True
    schemes: Sequence[str] = ("Bearer",)
    others: Sequence[OtherKind] = ()
    parameters: Mapping[str, str] = {}

    def fields(self, error: GatewayError, realm: str) -> list[bytes]:
        """Return the challenges, one for each scheme and kind that would do."""
        found = []
        if self.bearer:
            first = error.scheme or self.schemes[0]
            found = [self._challenge(first, error.reason, realm, error.scope)]
            # That another scheme would do is not an error of it.
            others = (scheme for scheme in self.schemes if scheme != first)
            found += [self._challenge(scheme, Reasons.NO_CREDENTIAL, realm) for scheme in others]
        return [*found, *(f'{kind.scheme} realm="{realm}"'.encode("ascii") for kind in self.others)]

    def text(self, reason: Reason) -> str:
        """Return the fixed text for people, which names the kinds of credentials that would do."""
        if reason.kind is not MISSING_TOKEN or not self.others:
            return reason.text
        titles = (["a bearer token"] if self.bearer else []) + [kind.title for kind in self.others]
        listed = " or ".join(titles)
        return f"{listed[0].upper()}{listed[1:]} is required."

    def _challenge(self, scheme: str, reason: Reason, realm: str, scope: str = "") -> bytes:
        parts = [f'{scheme} realm="{realm}"']
        if scheme in self.parameters:
            parts.append(self.parameters[scheme])
        if reason.kind.challenge is Challenge.ERROR:
            parts.append(f'error="{reason.kind.error}"')
            parts.append(f'error_description="{reason.text}"')
            if scope:
                parts.append(f'scope="{scope}"')
        if "" in self.parameters:
            parts.append(self.parameters[""])
        return ", ".join(parts).encode("ascii")


#: For requests whose route is not known.
ANY_ROUTE = RouteChallenges()
