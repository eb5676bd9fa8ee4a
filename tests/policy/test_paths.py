"""Rules R220-R244 over guard, host and routes together: what a request line and a Host field lead to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError, Reasons
from gateway.http1.host import parse_host
from gateway.http1.target import parse_target
from gateway.policy.routes import RouteTable, upstream_path
from tests.support.composed import Route

TABLE = RouteTable(
    [
        Route(path="/public", upstream="u", auth="public"),
        Route(path="/admin", upstream="u"),
        Route(path="/admin/status", match="exact", upstream="u", auth="public"),
        Route(path="/files", upstream="u", strip_prefix=True, allow_encoded_slash=True),
        Route(path="/report", upstream="u", methods=["GET"], auth="public"),
        Route(path="/report", upstream="u"),
        Route(path="/", hosts=["tenant.test"], upstream="u"),
    ]
)


def decide(target: bytes, *hosts: bytes, method: str = "GET") -> tuple[str, bytes]:
    """Return route and upstream path, or the reason's code and nothing."""
    try:
        parsed = parse_target(method, target)
        host = parse_host(hosts or (b"api.test",), parsed.authority, True)
    except GatewayError as error:
        return error.reason.code, b""
    route = TABLE.match(host, method, parsed.match_path)
    if route is None:
        return Reasons.NO_ROUTE.code, b""
    if parsed.encoded_slash and not route.allow_encoded_slash:
        return "encoded slash", b""
    return route.name, upstream_path(route, parsed)


@pytest.mark.parametrize("hosts", [(b"a", b"b"), (b"",), (b"h/../x?@evil",), (b"a b",), (b"h:99999",)])
@pytest.mark.rule("R220")
def test_host_field_is_one_host(hosts: tuple[bytes, ...]) -> None:
    """The grammar of the value too."""
    assert decide(b"/public", *hosts) == ("bad_host", b"")


@pytest.mark.rule("R221", "R222")
def test_absolute_form_chooses_a_route_by_its_authority_and_never_an_upstream() -> None:
    """And the upstream's path holds nothing of it."""
    assert decide(b"http://evil/public/x", b"tenant.test") == ("/public", b"/public/x")
    assert decide(b"http://evil/x", b"tenant.test") == ("no_route", b"")
    assert decide(b"http://tenant.test/x", b"other") == ("/", b"/x")
    for target in (b"http://u:p@tenant.test/x", b"file:///x", b"HTTPS://tenant.test/"):
        assert decide(target, b"tenant.test") == ("bad_target", b"")


@pytest.mark.rule("R223", "R225")
def test_forms_for_other_methods_are_refused() -> None:
    """No tunnel, and the server as a whole is no route."""
    assert decide(b"evil:443", b"evil:443", method="CONNECT") == ("bad_target", b"")
    assert decide(b"*", method="OPTIONS") == ("bad_target", b"")


@pytest.mark.parametrize(
    "target",
    [
        *(b"/public/../admin", b"/public/./x", b"/..", b"/public/%2e%2e/admin", b"/public/.%2e/admin", b"/public/%2E."),
        *(b"/public%2f..%2fadmin", b"/public/%5c../admin", b"/public\\..\\admin", b"//admin", b"/public//x"),
        *(b"///admin", b"//evil.com/x", b"/public;/../admin", b"/public/..;/admin", b"/public/%00", b"/public/%0d%0a"),
        *(b"/public/%7f", b"/public/%", b"/public/%zz", b"/public/%c0%ae", b"/public/%ff", b"/files/..%2fadmin"),
        *(b"/files/%2e%2e%2Fadmin", b"/files%2F..%2F..%2Fadmin"),
    ],
)
@pytest.mark.rule("R229", "R230", "R231", "R232", "R233", "R234", "R235", "R236", "R237")
def test_ambiguous_paths_reach_no_route(target: bytes) -> None:
    """Also where the route would serve an encoded slash."""
    assert decide(target) == ("bad_path", b"")


@pytest.mark.parametrize(
    ("target", "outcome"),
    [
        pytest.param(b"/public/%252e%252e/admin", ("/public", b"/public/%252e%252e/admin"), id="R232"),
        pytest.param(b"/public/%25252f", ("/public", b"/public/%25252f"), id="R232 again"),
        pytest.param(b"/admin;x", ("/admin", b"/admin;x"), id="R235"),
        pytest.param(b"/%61dmin/x", ("/admin", b"/%61dmin/x"), id="R230 letters"),
        pytest.param(b"/Admin", ("no_route", b""), id="R238 case"),
        pytest.param(b"/admin/", ("/admin", b"/admin/"), id="R238 slash"),
        pytest.param(b"/admin.", ("no_route", b""), id="R238 dot"),
        pytest.param(b"/admin%20", ("no_route", b""), id="R238 space"),
        pytest.param(b"/administrator", ("no_route", b""), id="R239"),
        pytest.param(b"/publicX", ("no_route", b""), id="R239 public"),
        pytest.param(b"/public%2Fx", ("no_route", b""), id="R231 no border"),
        pytest.param(b"/public/a%2Fb", ("encoded slash", b""), id="R231 route does not allow"),
        pytest.param(b"/files/a%2Fb", ("/files", b"/a%2Fb"), id="R231 route allows"),
        pytest.param(b"/files/%2Fevil.com", ("/files", b"/%2Fevil.com"), id="R234 after stripping"),
        pytest.param(b"/a#/../admin", ("bad_target", b""), id="R240"),
        pytest.param(b"/unknown", ("no_route", b""), id="R242"),
    ],
)
@pytest.mark.rule("R228", "R230", "R231", "R232", "R233", "R234", "R235", "R238", "R239", "R240", "R241", "R242")
def test_rules_and_upstream_see_one_path(target: bytes, outcome: tuple[str, bytes]) -> None:
    assert decide(target) == outcome


@pytest.mark.parametrize("host", [b"tenant.test", b"Tenant.TEST:443", b"tenant.test.", b"TENANT.test.:8080"])
@pytest.mark.rule("R243")
def test_host_chooses_a_route_in_every_spelling(host: bytes) -> None:
    assert decide(b"/x", host) == ("/", b"/x")
    assert decide(b"/x", b"not" + host) == ("no_route", b"")


@pytest.mark.rule("R244")
def test_public_route_opens_nothing_but_itself() -> None:
    """Exact and by method; what lies below or beside needs its token still."""
    by_name = {route.name: route for route in TABLE.routes}
    assert by_name[decide(b"/admin/status")[0]].auth == "public"
    for target in (b"/admin/status/", b"/admin/status/x", b"/admin/statusX", b"/admin", b"/admin/status%2f"):
        name = decide(target)[0]
        assert name == "encoded slash" or by_name[name].auth == "required"
    assert by_name[decide(b"/report")[0]].auth == "public"
    assert by_name[decide(b"/report", method="POST")[0]].auth == "required"
    assert by_name[decide(b"/report", method="get")[0]].auth == "required"


@given(st.lists(st.sampled_from(["/", "public", "admin", "..", ".", ";", "%2e", "%2f", "%61", "x"]), max_size=8))
@pytest.mark.rule("R228", "R244")
def test_no_spelling_turns_a_public_path_into_another(pieces: list[str]) -> None:
    """Whatever a public prefix serves is below that prefix once the upstream has resolved it."""
    target = ("/" + "".join(pieces)).encode()
    name, path = decide(target)
    if name == "/public":
        assert path == target
        assert path.split(b"/")[1].split(b";")[0].replace(b"%61", b"a") == b"public"
        assert not {b".", b".."} & {segment.split(b";")[0].replace(b"%2e", b".") for segment in path.split(b"/")}
