"""Documents, where they are found, and which routes lead to them, as pure values (RFC 9728)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.errors import GatewayError
from gateway.features.resource_metadata.documents import DOCUMENT_SECONDS, Resources
from gateway.features.resource_metadata.reasons import DOCUMENT_METHOD
from gateway.policy.routes import RouteTable
from gateway.server.request.error_answers import Answer
from tests.support.composed import Settings

WELL_KNOWN = "/.well-known/oauth-protected-resource"


def compiled(*resources: dict[str, Any], routes: tuple[dict[str, Any], ...] = ({"path": "/"},)) -> Resources:
    settings = Settings.model_validate(
        {
            "issuers": [{"name": "main", "issuer": "https://idp.test/", "audience": ["api"]}],
            "upstreams": [{"name": "u", "urls": ["http://127.0.0.1:1"]}],
            "routes": [{"upstream": "u", **route} for route in routes],
            "resources": list(resources),
        }
    )
    return Resources(settings, RouteTable(settings.routes).routes)


def body(found: Resources, host: str, path: str) -> Any:
    document = found.find(host, path)
    return None if document is None else json.loads(document.body)


def test_without_resources_there_is_nothing() -> None:
    found = compiled()
    assert found.metadata == {}
    assert found.find("gateway.test", WELL_KNOWN) is None


@pytest.mark.rule("R116")
def test_the_smallest_document_says_what_follows_from_the_routes() -> None:
    """RFC 9728 section 2; members without a value are left out (section 3.2)."""
    assert body(compiled({"resource": "https://a.test"}), "a.test", WELL_KNOWN) == {
        "resource": "https://a.test",
        "authorization_servers": ["https://idp.test/"],
        "bearer_methods_supported": ["header"],
    }
    assert body(compiled({"resource": "https://a.test/x"}), "", f"{WELL_KNOWN}/x") == {
        "resource": "https://a.test/x",
        "bearer_methods_supported": ["header"],
    }


@pytest.mark.rule("R116")
def test_the_largest_document_says_what_is_configured() -> None:
    """Under the names of RFC 9728 section 2."""
    given = {
        "resource": "https://A.test:8443/Orders/",
        "authorization_servers": ["https://one.test"],
        "scopes_supported": ["write", "read"],
        "name": "Bestellungen für Händler",
        "documentation": "https://a.test/docs",
        "policy_uri": "https://a.test/policy",
        "tos_uri": "https://a.test/tos",
    }
    assert body(compiled(given), "a.test", f"{WELL_KNOWN}/Orders/") == {
        "resource": "https://A.test:8443/Orders/",
        "authorization_servers": ["https://one.test"],
        "scopes_supported": ["write", "read"],
        "bearer_methods_supported": ["header"],
        "resource_name": "Bestellungen für Händler",
        "resource_documentation": "https://a.test/docs",
        "resource_policy_uri": "https://a.test/policy",
        "resource_tos_uri": "https://a.test/tos",
    }


@pytest.mark.parametrize("host", ["a.test", "other.test", ""])
@pytest.mark.rule("R116")
def test_a_path_of_one_document_is_served_whatever_the_host(host: str) -> None:
    """And the document says the same to all."""
    assert body(compiled({"resource": "https://a.test/x"}), host, f"{WELL_KNOWN}/x")["resource"] == "https://a.test/x"


@pytest.mark.rule("R116")
def test_the_host_decides_between_documents_of_one_path() -> None:
    found = compiled({"resource": "https://a.test/x"}, {"resource": "https://b.test/x"}, {"resource": "https://b.test"})
    for host, resource in (("a.test", "https://a.test/x"), ("b.test", "https://b.test/x")):
        assert body(found, host, f"{WELL_KNOWN}/x")["resource"] == resource
    for host in ("c.test", ""):
        assert found.find(host, f"{WELL_KNOWN}/x") is None
    assert body(found, "c.test", WELL_KNOWN)["resource"] == "https://b.test"


@pytest.mark.parametrize("path", [WELL_KNOWN, f"{WELL_KNOWN}/", f"{WELL_KNOWN}/x/", f"{WELL_KNOWN}/X", "/x", "/"])
def test_no_other_path_has_a_document(path: str) -> None:
    assert compiled({"resource": "https://a.test/x"}).find("a.test", path) is None


@pytest.mark.parametrize(
    ("options", "hidden"),
    [
        ({"path": f"{WELL_KNOWN}/x", "match": "exact"}, {"a.test", "b.test"}),
        ({"path": WELL_KNOWN}, {"a.test", "b.test"}),
        ({"path": f"{WELL_KNOWN}/x", "hosts": ["b.test"]}, {"b.test"}),
        ({"path": f"{WELL_KNOWN}/x", "methods": ["GET"]}, {"a.test", "b.test"}),
        ({"path": f"{WELL_KNOWN}/y"}, set()),
        ({"path": "/.well-known"}, set()),
        ({"path": f"{WELL_KNOWN}/x", "match": "regex"}, set()),
    ],
)
def test_a_route_that_names_the_path_serves_it_instead(options: dict[str, Any], hidden: set[str]) -> None:
    found = compiled({"resource": "https://a.test/x"}, routes=({"path": "/"}, {"auth": "public", **options}))
    assert {host for host in ("a.test", "b.test") if found.find(host, f"{WELL_KNOWN}/x") is None} == hidden


@pytest.mark.rule("R115")
def test_the_routes_of_a_resource_lead_to_its_document() -> None:
    """By their names, which log and metrics have, too."""
    found = compiled(
        {"resource": "https://a.test/api"},
        {"resource": "https://b.test:8443/"},
        routes=(
            {"path": "/api"},
            {"path": "/api", "hosts": ["b.test"]},
            {"path": "/api/open", "auth": "public"},
            {"path": "/x", "hosts": ["c.test"]},
            {"path": "/y", "hosts": ["c.test"], "resource": "https://a.test/api"},
        ),
    )
    assert found.metadata == {
        "/api": "https://a.test/.well-known/oauth-protected-resource/api",
        "/api#2": "https://b.test:8443/.well-known/oauth-protected-resource",
        "/y": "https://a.test/.well-known/oauth-protected-resource/api",
    }


@pytest.mark.rule("R116")
def test_the_answer_is_json_that_everybody_may_keep_for_a_while() -> None:
    document = compiled({"resource": "https://a.test/x"}).find("a.test", f"{WELL_KNOWN}/x")
    assert document is not None
    for method in ("GET", "HEAD"):
        reply = document.answer(method)
        assert (reply.status, reply.body, reply.close) == (200, document.body, False)
        assert len(reply.headers) == 2
        assert dict(reply.headers) == {
            b"Content-Type": b"application/json",
            b"Cache-Control": b"public, max-age=%d" % DOCUMENT_SECONDS,
        }


@pytest.mark.rule("R116")
def test_other_methods_are_told_which_ones_there_are() -> None:
    """RFC 9110 sections 9.3.7, 15.5.6."""
    document = compiled({"resource": "https://a.test/x"}).find("a.test", f"{WELL_KNOWN}/x")
    assert document is not None
    assert document.answer("OPTIONS") == Answer(204, ((b"Allow", b"GET, HEAD, OPTIONS"),), b"", close=False)
    for method in ("POST", "PUT", "DELETE", "get"):
        with pytest.raises(GatewayError) as caught:
            document.answer(method)
        assert caught.value.reason is DOCUMENT_METHOD


def test_a_document_stands_under_its_own_path_in_log_and_metrics() -> None:
    document = compiled({"resource": "https://a.test/x"}).find("b.test", f"{WELL_KNOWN}/x")
    assert document is not None
    assert (document.route.name, document.route.auth, document.route.websocket) == (f"{WELL_KNOWN}/x", "public", False)


@pytest.mark.parametrize(
    ("wanted", "certificates", "algorithms", "required"),
    [
        (["optional"], None, None, None),
        (["required"], True, ["ES256", "EdDSA", "PS256", "RS256"], None),
        (["dpop"], None, ["ES256", "EdDSA", "PS256", "RS256"], True),
        (["mtls"], True, None, None),
        (["optional", "dpop"], None, ["ES256", "EdDSA", "PS256", "RS256"], None),
    ],
)
@pytest.mark.rule("R116", "R133", "R139")
def test_a_document_says_how_tokens_must_be_bound(
    wanted: list[str], certificates: Any, algorithms: Any, required: Any
) -> None:
    """RFC 9728 section 2; nothing is said where no route asks for it."""
    routes = tuple({"path": f"/{number}", "sender_constrained": one} for number, one in enumerate(wanted))
    said = body(compiled({"resource": "https://a.test"}, routes=routes), "a.test", WELL_KNOWN)
    assert said.get("tls_client_certificate_bound_access_tokens") == certificates
    assert said.get("dpop_signing_alg_values_supported") == algorithms
    assert said.get("dpop_bound_access_tokens_required") == required
