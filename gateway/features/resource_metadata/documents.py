"""The metadata documents of protected resources, and the routes whose challenges lead to them (RFC 9728).

Renders documents once, from the configuration, and finds them by host and path.
Nothing of a request comes into a document. The danger of this file is a
document that describes another resource: the Host of a request may choose among
documents of one path, and changes none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.errors import GatewayError
from gateway.features.resource_metadata.options import (
    Resource,
    ResourceTables,
    document_path,
    document_url,
    resource_host,
)
from gateway.features.resource_metadata.reasons import DOCUMENT_METHOD
from gateway.features.resource_metadata.routes import (
    authorization_servers,
    fitting_resources,
    names_document,
    routes_by_resource,
    scopes_supported,
)
from gateway.policy.routes import Route, RouteTable
from gateway.server.request.error_answers import Answer
from gateway.settings.tables.root import Settings
from gateway.settings.tables.routes import RouteSettings

#: How long clients may keep a document, in seconds: how long a changed configuration may take to reach them.
DOCUMENT_SECONDS = 300

#: How long browsers may remember that pages of any origin may read it, in seconds.
_PREFLIGHT_SECONDS = 86400


@dataclass(frozen=True, slots=True, eq=False)
class MetadataDocument:
    """The metadata of one protected resource.

    Attributes:
        route: stands for the document in logs, metrics and for pages of other origins: it is public, and its upstream
            is never used.
        host: the resource's, as rules compare hosts.
        body: the JSON.
        hidden: a configured route serves the document's path instead, for every host.
        hidden_hosts: hosts for which a configured route does.
    """

    route: Route
    host: str
    body: bytes
    hidden: bool
    hidden_hosts: frozenset[str]

    def answer(self, method: str) -> Answer:
        """Answer a request for the document.

        Raises:
            GatewayError: it can only be read.
        """
        if method == "OPTIONS":
            allow = (b"Allow", DOCUMENT_METHOD.kind.allow.encode("ascii"))
            return Answer(204, (allow,), b"", close=False)
        if method not in ("GET", "HEAD"):
            raise GatewayError(DOCUMENT_METHOD)
        fields = (
            (b"Content-Type", b"application/json"),
            (b"Cache-Control", b"public, max-age=%d" % DOCUMENT_SECONDS),
        )
        return Answer(200, fields, self.body, close=False)


class Resources:
    """The protected resources of one configuration.

    Args:
        settings: a valid configuration.
        routes: its routes, compiled, in its order.

    Attributes:
        metadata: by name of a route, the URL of the document of its resource; routes without a resource are not in it.
    """

    def __init__(self, settings: Settings, routes: Sequence[Route]) -> None:
        self.metadata: Mapping[str, str] = {
            route.name: document_url(ResourceTables.of(settings).resources[index].resource)
            for route in routes
            for index in fitting_resources(route.settings, ResourceTables.of(settings).resources)
        }
        # The path of a document, as rules read paths -> those that stand there, of different hosts.
        self._documents: dict[str, list[MetadataDocument]] = {}
        for resource, members in zip(ResourceTables.of(settings).resources, routes_by_resource(settings), strict=True):
            document = _compile(resource, members, settings)
            self._documents.setdefault(document_path(resource.resource), []).append(document)

    def find(self, host: str, path: str) -> MetadataDocument | None:
        """Return the document that the gateway serves at a path.

        A path with one document is served for every host, so that a gateway can
        be reached by another name; with several, the host must be one of theirs.

        Args:
            host: canonical host of the request; empty when it has none.
            path: the rules' reading of the path (``Target.match_path``).
        """
        documents = self._documents.get(path)
        if documents is None:
            return None
        for document in documents:
            if len(documents) == 1 or document.host == host:
                return None if document.hidden or host in document.hidden_hosts else document
        return None


def _compile(resource: Resource, members: Sequence[RouteSettings], settings: Settings) -> MetadataDocument:
    path = document_path(resource.resource)
    instead = [route for route in settings.routes if names_document(route, path)]
    return MetadataDocument(
        route=_document_route(path),
        host=resource_host(resource.resource),
        body=orjson.dumps(_metadata(resource, members, settings)),
        hidden=any(not route.hosts for route in instead),
        hidden_hosts=frozenset(host for route in instead for host in route.hosts),
    )


def _metadata(resource: Resource, members: Sequence[RouteSettings], settings: Settings) -> dict[str, Any]:
    """Return the members of the document (RFC 9728 section 2); empty ones are left out (section 3.2)."""
    metadata = {
        "resource": resource.resource,
        "authorization_servers": authorization_servers(resource, members, settings.issuers),
        "scopes_supported": scopes_supported(resource, members),
        "bearer_methods_supported": ["header"],
        "resource_name": resource.name,
        "resource_documentation": resource.documentation,
        "resource_policy_uri": resource.policy_uri,
        "resource_tos_uri": resource.tos_uri,
        **_bindings(members, settings.dpop.algorithms),
    }
    return {name: value for name, value in metadata.items() if value}


def _bindings(members: Sequence[RouteSettings], algorithms: Sequence[str]) -> dict[str, Any]:
    """Return what clients must know of tokens that are bound to them, where a route asks for such."""
    wanted = {route.sender_constrained for route in members}
    return {
        "tls_client_certificate_bound_access_tokens": not wanted.isdisjoint({"required", "mtls"}),
        "dpop_signing_alg_values_supported": [] if wanted.isdisjoint({"required", "dpop"}) else list(algorithms),
        "dpop_bound_access_tokens_required": wanted == {"dpop"},
    }


def _document_route(path: str) -> Route:
    settings = RouteSettings(
        path=path,
        match="exact",
        upstream="none",
        auth="public",
        websocket=False,
        cors_origins=["*"],
        cors_methods=["GET", "HEAD"],
        cors_max_age_seconds=_PREFLIGHT_SECONDS,
    )
    return RouteTable([settings]).routes[0]
