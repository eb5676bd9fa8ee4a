"""What an express connection knows of its client's requests, and the requests that it knows already.

Only the use of that memory lives here: a request that repeats an earlier one
of its connection, the reading of a header section against the last one, and
what is remembered of a request that went its way. What the memory is made of,
and what it may hold, is ``plan.py``'s; how the requests come in is
``connection.py``'s.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from hashlib import sha256
from typing import NamedTuple

from gateway.http1.fields import parse_fields
from gateway.http1.plain_response import HeadMemory
from gateway.http1.trusted_proxies import UNKNOWN, Peer
from gateway.identity import Identity
from gateway.jwt.jose.shape import is_jws
from gateway.server.aiohttp_lane.listener import Listener
from gateway.server.express_lane.exchange import ExpressExchange
from gateway.server.express_lane.loop_turn import Deferred, DeferredRefusal, DeferredRequest
from gateway.server.express_lane.output import ClientOutput
from gateway.server.express_lane.plan import MAX_PLANS, MAX_PLANS_BYTES, MAX_SECTION, Plan, plan_cost
from gateway.server.express_lane.section import Section, is_token, read_section
from gateway.server.express_lane.varying_fields import Shape, Template, Variation
from gateway.server.pipeline.runner import Serving
from gateway.server.request.outcome import Refusal
from gateway.server.request.request import Admitted, RequestHead
from gateway.telemetry.counters import Record
from gateway.upstream.pool.upstream_url import Lease, Origin

#: Largest request content that is collected; a larger one is streamed by the full lane.
MAX_CONTENT = 65536


class Heads(NamedTuple):
    """What upstreams' response heads mean: to clients that keep their connection open, and to those that do not."""

    kept: HeadMemory
    closing: HeadMemory


class KnownRequests(ClientOutput, ABC):
    """One client connection's memory of its requests.

    Args:
        serving: the shared run of requests.
        listener: makes the full lane's protocol for what is handed over.
        heads: what upstreams' response heads mean.
        deferred: the requests that wait.

    Attributes:
        deadline: the loop's time after which it is too late for what is expected next.
    """

    def __init__(self, serving: Serving, listener: Listener, heads: Heads, deferred: Deferred) -> None:
        super().__init__(serving, listener)
        self._deferred = deferred
        self._all_heads, self._heads = heads, heads.kept
        self._peer = Peer(UNKNOWN, False, 0)
        self._exchange: ExpressExchange | DeferredRequest | None = None
        self._section: Section | None = None
        self._last_stop = 0  # where the token may end, by the bound on the head
        self._shape: Shape | None = None
        self._variation: Variation | None = None  # of the running request
        self._plans: dict[bytes, Plan | Refusal] = {}
        self._plans_bytes = 0
        self._token = self._digest = b""
        self._refused_last = False
        self._client_text = ""
        self._most_content = min(MAX_CONTENT, self._limits.max_body_bytes or MAX_CONTENT)
        self._revocations, self._monotonic = serving.pipeline.authenticator.revocations, serving.clock.monotonic
        self._revocable = bool(self._revocations.sources)
        # Requests that are counted while they run take the long way.
        self._counted = bool(self._limits.max_concurrent_requests)
        self._watch = serving.pipeline.observer
        self.deadline = 0.0

    @property
    def token(self) -> bytes:
        """The bearer token that was looked up last."""
        return self._token

    @property
    def address(self) -> str:
        """The client's address, seen through trusted proxies."""
        return self._client_text

    @abstractmethod
    def ended(self, keep_alive: bool, *, refused: bool = False) -> None:
        """The running request is over."""

    @abstractmethod
    def resume(self, data: bytes) -> None:
        """Begin with the running request after all."""

    def _known(self, data: bytes) -> bool:
        """Serve a request that differs from an earlier one of this connection in nothing but its token.

        What may have changed is asked anew: the token's standing, the route's
        rules for this caller, a free connection. Any doubt goes the long way.
        """
        end = data.find(b"\r\n") + 2
        plan = self._plans.get(data[:end])
        section = self._section
        if plan is None or section is None or self._counted:
            return False
        if self._watch.barring and self._watch.bars(self._client_text):
            return False
        before, after, length, given = section.before, section.after, section.length, section.request_id
        start, stop = end + len(before), len(data) - length - len(after)
        self._variation = None
        if start <= stop <= self._last_stop and data.startswith(before, end) and data.startswith(after, stop):
            token = data[start:stop]
            if bool(token) is not bool(after):
                return False
        else:
            varied = self._variation = self._varied(data, end, section)
            if varied is None:
                return False
            token, given, length = varied.token, varied.request_id, varied.length
        if isinstance(plan, Refusal):
            return self._defer_refusal(plan, given, data)
        busy, turns_away = plan.busy, plan.turns_away
        # Made-up tokens come in floods: what each of them costs is taken from everybody else.
        if (
            busy is not None
            and turns_away is not None
            and after
            and not plan.guarded
            and not is_jws(token)
            and is_token(token)
            and turns_away(token)
            and self._defer_refusal(busy, given, data)
        ):
            return True
        if self._revocable and not plan.anonymous and self._monotonic() >= self._revocations.settled_until:
            return False  # what is revoked is not known now: it is looked at, or each route has its own word for that
        identity = None if plan.anonymous or plan.guarded else self._recalled(token)
        # A token that was verified is one token. Any other is looked at, also where nobody asks for it: between the
        # parts that are as before there may be no line end, so no field and no request either, that nobody has read.
        if identity is None and after and not is_token(token):
            return False
        if identity is None and self._refused_last and not plan.anonymous:
            self._defer(DeferredRequest(self, data))
            return True
        exchange = self._exchange = ExpressExchange(self, self._serving, self._heads)
        exchange.follow(plan, given, data[-length:] if length else b"")
        if plan.guarded:
            if after:
                self._look_up(token)
            exchange.ask_guards(plan, section.facts_with(token) if after else section.facts)
            return True
        if not plan.anonymous:
            if identity is None:
                exchange.learn(plan, token, self._digest)
                return True
            if identity is not plan.granted and not plan.passes(identity):
                self._exchange = None
                return False
        leased = plan.upstream.lease_now()
        if leased is None:
            exchange.wait(identity)
            return True
        origin, lease = leased
        head = plan.heads.get(origin) if self._variation is None else None
        if head is None:
            head = self.head_for(plan, origin, lease)
            if head is None:
                self._exchange = None
                return False
        exchange.send(identity, head, lease)
        return True

    def _varied(self, data: bytes, start: int, section: Section) -> Variation | None:
        """Return how a request's header section differs from the last one, if that makes no difference."""
        end = data.find(b"\r\n\r\n", start) + 4
        if not 4 <= end <= self._limits.max_head_bytes:
            return None
        shape = self._shape
        if shape is None:
            # Where sections take turns, nearly all differ in this; it is cheaper to see than what may differ.
            if data.count(b"\r\n", start, end) != section.before.count(b"\r\n") + section.after.count(b"\r\n"):
                return None
            policy = self._serving.pipeline.header_policy
            shape = self._shape = Shape(section, policy.blind_to, self._most_content)
        varied = shape.compare(data[start:end])
        return varied if varied is not None and len(data) - end == varied.length else None

    def head_for(self, plan: Plan, origin: Origin, lease: Lease) -> bytes | None:
        """Return the running request's head for the upstream, up to the identity.

        Args:
            plan: what it follows.
            origin: where it goes.
            lease: the connection for it; released when there is no such head and on every fault.
        """
        section, varied, shape = self._section, self._variation, self._shape
        assert section is not None
        try:
            common = plan.heads.get(origin)
            if common is None:
                head = RequestHead(plan.method, plan.admitted.target.path, True, section.headers, self._peer)
                common = plan.head(origin, self._serving.pipeline, head)
            if varied is None or shape is None or not varied.lines:
                return common
            template = plan.templates.get(origin)
            if template is None:
                template = plan.templates[origin] = Template(common, shape, section.length)
            changed = template.head(varied.lines)
            if changed is None:
                lease.release()
        except BaseException:
            lease.release()
            raise
        return changed

    def _defer_refusal(self, refusal: Refusal, request_id: bytes | None, data: bytes) -> bool:
        """Refuse a request for the reason that is known, unless it is access-logged."""
        serving = self._serving
        if serving.logging or not self.keep_alive:
            return False
        given = request_id or serving.new_id()
        self._defer(DeferredRefusal(self, data, partial(serving.outcomes.give_refusal, refusal, given, self.send)))
        return True

    def _defer(self, request: DeferredRequest) -> None:
        """Have the running request wait behind those that are served."""
        self._exchange = request
        self._deferred.add(request)

    def _recalled(self, token: bytes) -> Identity | None:
        """Return who the token speaks for, if it is known."""
        self._look_up(token)
        return self._serving.pipeline.authenticator.recall(self._digest)

    def _look_up(self, token: bytes) -> None:
        if token != self._token:
            self._token, self._digest = token, sha256(token).digest()

    def _read(self, block: bytes, head: RequestHead) -> tuple[Section, bytes | None] | None:
        """Return the meaning of a header section and the token in it; None when it is not for this lane."""
        section = self._section
        if section is not None:
            token = section.token(block)
            if token is not None or (not section.after and section.before == block):
                return section, token
        found = read_section(block, self._serving.pipeline, head)
        if found is not None:
            section = found[0]
            short = len(section.before) + len(section.after) <= MAX_SECTION
            self._section, self._shape = section if short else None, None
            self._last_stop = self._limits.max_head_bytes - len(section.after)
            self._persistent = section.persistent
            self._heads = self._all_heads.kept if self._persistent else self._all_heads.closing
            self._forget()
            whole = head._replace(headers=section.headers)
            self._client_text = self._serving.pipeline.client_address(whole).decode("ascii")
        return found

    def _remember(self, line: bytes, plan: Plan | Refusal) -> None:
        """Remember where a request line led, under the section that is remembered."""
        section = self._section
        cost = MAX_PLANS_BYTES + 1 if section is None else plan_cost(line, plan, section)
        if cost > MAX_PLANS_BYTES:
            return
        if len(self._plans) >= MAX_PLANS or self._plans_bytes + cost > MAX_PLANS_BYTES:
            self._forget()
        self._plans[line] = plan
        self._plans_bytes += cost

    def _forget(self) -> None:
        self._plans.clear()
        self._plans_bytes = 0

    def _plan(self, method: str, admitted: Admitted, section: Section) -> Plan:
        auth = admitted.route.auth
        anonymous = auth == "public" or (auth == "optional" and not section.facts.authorization)
        upstream = self._serving.upstreams[admitted.route.upstream]
        guarded = self._serving.pipeline.covered(admitted.route)
        return Plan(method, admitted, upstream, anonymous=anonymous, guarded=guarded)

    def record(self, request_id: bytes, method: str) -> Record:
        """Return a new record of a request on this connection."""
        return Record(
            started=self._serving.clock.monotonic(),
            client=self._client_text,
            request_id=request_id.decode("ascii"),
            method=method,
        )

    def head_of(self, plan: Plan) -> RequestHead:
        """Return the head of a request that was served by a plan, as good as received."""
        section, varied = self._section, self._variation
        assert section is not None
        if varied is not None:
            headers = parse_fields(varied.block[:-4])
        else:
            headers = section.headers_with(self._token) if section.after else section.headers
        return RequestHead(plan.method, plan.admitted.target.raw(), True, headers, self._peer)
