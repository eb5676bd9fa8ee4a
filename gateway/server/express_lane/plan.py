"""What a kept connection's requests mean, remembered.

Only what a request line leads to lives here. Under one header section
(``section.py``), and under those that differ from it in nothing that
counts (``varying_fields.py``), it leads to one route, and to one head for
the upstream but for the identity, or to one refusal. What can change from one
moment to the next is never remembered: what the token stands for, whether the
route lets it pass, which connection is free. Nor is an answer: what is
remembered of a refusal is the verdict, and each answer is written for its own
request.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.errors import GatewayError
from gateway.identity import Identity
from gateway.policy.authorize import authorize
from gateway.server.authentication.jwt_kind import JwtKind
from gateway.server.express_lane.section import Section
from gateway.server.express_lane.varying_fields import Template
from gateway.server.pipeline.judge_steps import Pipeline
from gateway.server.request.outcome import Refusal
from gateway.server.request.request import Admitted, RequestHead
from gateway.telemetry.counters import method_class
from gateway.upstream.pool.upstream import Upstream
from gateway.upstream.pool.upstream_url import Origin

#: Request lines of a connection that are remembered, and the memory for what they lead to, in bytes, about.
MAX_PLANS, MAX_PLANS_BYTES = 32, 65536

#: The longest header section that is remembered, in bytes without its token. Connections are many, and each may send
#: the longest.
MAX_SECTION = 8192

# What a plan takes besides the bytes in it, measured.
_FIXED_COST = 1024


class Plan:
    """Where a request line leads, under one header section of one connection.

    Attributes:
        method: the request's method.
        admitted: the target and its route.
        anonymous: nobody asks who the caller is.
        guarded: the route's guards are asked each time.
        upstream: the route's.
        heads: by URL, the head for the upstream up to the identity.
        templates: by URL, that head for sections that vary.
        counters: by status, the key under which the request is counted.
        granted: the last caller whom the route's rules let pass.
        granted_scopes, granted_issuer: theirs, where the route asks for nothing else.
        busy: the refusal of tokens that no server is asked about now, because too much is being asked.
        turns_away: tells whether a token that is no JWT is such a one; for when there is ``busy``.
    """

    __slots__ = (
        "admitted",
        "anonymous",
        "busy",
        "counters",
        "granted",
        "granted_issuer",
        "granted_scopes",
        "guarded",
        "heads",
        "method",
        "templates",
        "turns_away",
        "upstream",
    )

    def __init__(
        self, method: str, admitted: Admitted, upstream: Upstream, *, anonymous: bool, guarded: bool = False
    ) -> None:
        self.method = method
        self.admitted = admitted
        self.anonymous = anonymous
        self.guarded = guarded
        self.upstream = upstream
        self.heads: dict[Origin, bytes] = {}
        self.templates: dict[Origin, Template] = {}
        self.counters: dict[int, tuple[str, str, int, str]] = {}
        self.granted: Identity | None = None
        self.granted_scopes: tuple[str, ...] | None = None
        self.granted_issuer = ""
        self.busy: Refusal | None = None
        self.turns_away: Callable[[bytes], bool] | None = None

    def let_pass(self, identity: Identity) -> None:
        """Ask the route's rules for a caller, and remember that it may pass.

        Raises:
            GatewayError: it may not.
        """
        route = self.admitted.route
        authorize(route, identity)
        self.granted = identity
        # A token that is remembered was verified by keys: what an introspected one may says nothing of it.
        if not route.claim_rules and identity.credential == JwtKind.name:
            self.granted_scopes, self.granted_issuer = identity.scopes, identity.issuer_name

    def passes(self, identity: Identity) -> bool:
        """Tell whether the route's rules let a caller pass."""
        # The same scopes from the same issuer: the same answer. They are one object each where they are equal, mostly.
        if identity.scopes is self.granted_scopes and identity.issuer_name is self.granted_issuer:
            return True
        try:
            self.let_pass(identity)
        except GatewayError:
            return False
        return True

    def head(self, origin: Origin, pipeline: Pipeline, head: RequestHead) -> bytes:
        """Return the head for the upstream up to the identity.

        Args:
            origin: the URL.
            pipeline: makes it, once.
            head: a request's head of the same section; its token is not used.
        """
        common = self.heads.get(origin)
        if common is None:
            common = self.heads[origin] = pipeline.upstream_head_start(head, self.admitted, origin)
        return common

    def counter(self, status: int) -> tuple[str, str, int, str]:
        """Return the key under which a forwarded request with this status is counted."""
        key = self.counters.get(status)
        if key is None:
            key = self.counters[status] = (self.admitted.route.name, method_class(self.method), status, "forwarded")
        return key


def plan_cost(line: bytes, plan: Plan | Refusal, section: Section) -> int:
    """Return about how many bytes of memory it takes to remember where a request line leads."""
    # The line is the key, and parts of it are the target and its path; each URL has a head, and may have a template.
    urls = len(plan.upstream.origins) if isinstance(plan, Plan) else 1
    return _FIXED_COST + 4 * len(line) + 2 * urls * (len(section.before) + len(section.after))


def plannable(admitted: Admitted) -> bool:
    """Whether all that a request line leads to can be remembered."""
    return admitted.route.express_remembers and not (
        admitted.preflight
        or admitted.forwards_left is not None
        or admitted.overridden
        or admitted.target.authority is not None
        or b"access_token" in (admitted.target.query or b"")
    )


def with_length(admitted: Admitted, content: bytes) -> Admitted:
    """Return what is known of a request by its plan, with the length of its own content, which may differ."""
    if not content:
        return admitted
    return admitted._replace(facts=admitted.facts._replace(content_length=[b"%d" % len(content)]))
