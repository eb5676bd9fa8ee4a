"""Request fields that services take from the proxy in front of them: from a client they are claims about itself.

Only this list lives here: names that move the target of a request, or say who
sends it, from where, over what and to which host, each group with the software
that believes it. ``names.py`` drops them from every request. The danger of
this file is a name that is missing: a service that believes it has no rules
any more. ``[server] strip_headers`` adds the names of one's own services.
Tracing fields, credentials that a service checks itself, and what browsers and
libraries send to describe themselves are not here, even where they begin alike
(``X-Auth-Token``, ``X-User-Agent``, ``X-Client-Version``, ``X-Goog-Api-Key``).
"""

from __future__ import annotations

from typing import NamedTuple


class Group(NamedTuple):
    """Names that are dropped for one reason.

    Attributes:
        reason: who believes them, and what.
        names: whole names in folded spelling (see ``names.fold``), apart by white space.
        prefixes: beginnings of names, likewise.
    """

    reason: str
    names: str = ""
    prefixes: str = ""


GROUPS = (
    Group(
        "the path, query and method that a service acts on, instead of those of the request line",
        # X-Original-URL (IIS, Symfony) and -Method (nginx), Daphne-Root-Path, X-Middleware-Subrequest (Next.js,
        # CVE-2025-29927), l5d-dst-override (Linkerd), and what Envoy treats as its own.
        names="document-root document-uri path-info path-translated query-string raw-request-uri redirect-status"
        " redirect-url request-method request-path request-uri request-url script-filename script-name x-base-path"
        " x-base-uri x-base-url x-context-path x-http-destinationurl x-http-method x-http-method-override"
        " x-http-path-override x-http-verb-override x-ingress-path x-matched-path x-method-override"
        " x-ms-original-url x-now-route-matches x-override-url x-path-info x-path-prefix x-proxy-context-path"
        " x-proxy-path x-proxy-prefix x-proxycontextpath x-replaced-path x-request-base x-request-path"
        " x-request-uri x-request-url x-rewrite-uri x-rewrite-url x-root-path x-script-name x-traversal-path"
        " x-url-prefix x-waws-unencoded-url",
        prefixes="daphne- l5d- x-envoy- x-iisnode- x-invoke- x-istio- x-middleware- x-original-",
    ),
    Group(
        "the meta-variables of CGI (RFC 3875 section 4.1), which some gateways of services fill from fields",
        # Remote-User, Remote-Addr, ...; Remote-Groups (Authelia); Remote-Address (Akka, Pekko).
        names="auth-type gateway-interface https request-scheme server-addr server-name server-port server-protocol"
        " server-software",
        prefixes="remote-",
    ),
    Group(
        "addresses of clients, as proxies and content delivery networks write them",
        names="ali-cdn-real-ip cdn-src-ip cf-visitor cf-worker client-address client-ip coming-from do-connecting-ip"
        " incap-client-ip true-client-ip x-caller-ip x-client-addr x-client-address x-client-host x-client-ip"
        " x-client-port x-clientip x-coming-from x-connecting-ip x-custom-ip-authorization x-from-ip"
        " x-google-real-ip x-ip x-ip-address x-originating-ip x-proxyuser-ip x-remoteip x-source-ip x-src-ip"
        " x-trusted-ip x-user-ip",
        prefixes="akamai- cf-cert- cf-client- cf-connecting- cf-ip cf-pseudo- cloudfront- fastly- fly-client-"
        " fly-forwarded- proxy-client- x-akamai- x-azure-clientip x-azure-fdid x-azure-socketip x-cluster-client"
        " x-nf- x-real- x-sucuri-client x-vercel-forwarded- x-vercel-internal- x-vercel-ip- x-vercel-proxied-"
        " x-vercel-proxy-",
    ),
    Group(
        "forwarding fields other than those that the gateway writes itself (forwarded.py)",
        # X-Forwarded-User, -Email, -Groups, -Uri, -Prefix, -Scheme, -Ssl, -Client-Cert, -Access-Token, ...
        prefixes="forwarded- x-forward",
    ),
    Group(
        "the host that was asked for",
        names="disguised-host host-override was-default-hostname x-host x-host-override x-http-host"
        " x-http-host-override x-proxyhost x-proxyport x-server-name x-server-port",
    ),
    Group(
        "the scheme, and what TLS had to say",
        names="front-end-https timeout-access tls-session-info x-http-scheme x-https x-proto x-protocol x-proxyscheme"
        " x-request-scheme x-scheme x-url-scheme",
        prefixes="ssl- tls-client- x-amzn-tls- x-appservice- x-arr- x-ssl x-tls-",
    ),
    Group(
        "client certificates",
        # Client-Cert and Client-Cert-Chain are those of RFC 9440.
        names="x-clientcert x-issuer-dn x-spiffe-id x-subject-dn",
        prefixes="client-cert ms-aspnetcore- proxy-auth-cert proxy-ssl- x-amzn-mtls- x-client-cert x-client-dn"
        " x-client-i-dn x-client-issuer x-client-s-dn x-client-subject x-client-verify x-mtls-",
    ),
    Group(
        "the user, as authenticating proxies and service meshes write it",
        # X-Auth-Request-* (oauth2-proxy), X-WEBAUTH-* (Grafana), X-Consumer-* (Kong), iv-* (WebSEAL), ...
        names="auth-cn auth-dn auth-groups auth-mail auth-roles auth-user eppn smuser x-anonymous-consumer"
        " x-auth-audience x-auth-claims x-auth-dn x-auth-email x-auth-expiresin x-auth-group x-auth-groups"
        " x-auth-id x-auth-name x-auth-role x-auth-roles x-auth-scope x-auth-scopes x-auth-sub x-auth-subject"
        " x-credential-identifier x-email x-groups x-identity x-jwt-assertion x-jwt-payload x-principal x-role"
        " x-roles x-user x-user-claims x-user-dn x-user-email x-user-fullname x-user-group x-user-groups x-user-id"
        " x-user-info x-user-login x-user-mail x-user-name x-user-permissions x-user-role x-user-roles"
        " x-user-scope x-user-scopes x-user-sub x-user-subject x-user-uuid x-userid x-userinfo x-username",
        prefixes="cas- iv- kubeflow- mellon- oam- oidc- osso- proxy-remote- proxy-user shib- sm- tailscale- teleport-"
        " x-agw- x-auth-couchdb- x-auth-request- x-auth-user x-authelia- x-authenticated- x-authentik- x-consumer-"
        " x-credential-username x-endpoint-api- x-hass- x-jwt-claim x-pomerium- x-principal- x-proxied"
        " x-proxy-ext- x-proxy-remote- x-proxy-role x-proxy-user x-remote- x-rstudio- x-spinnaker- x-sso-"
        " x-token-subject x-token-user- x-vouch- x-webauth-",
    ),
    Group(
        "the user, the client and the context, as clouds write them",
        names="x-amzn-lambda-context x-amzn-request-context x-waws-default-hostname",
        prefixes="cf-access- x-amzn-oidc- x-apigateway- x-appengine- x-goog-authenticated-user- x-goog-iap-"
        " x-ms-client-principal x-ms-token-",
    ),
    Group(
        "the subscriber, as mobile networks write it",
        names="msisdn x-h3g-msisdn x-msisdn x-nokia-msisdn x-up-calling-line-id x-up-subno x-wap-msisdn",
        prefixes="x-wap-network-",
    ),
    Group(
        "files and mappings of a server in front (X-Sendfile-Type and X-Accel-Mapping of Rack, CVE-2025-61780)",
        prefixes="x-accel- x-sendfile",
    ),
    Group(
        "HTTP_PROXY of CGI programs (CVE-2016-5385), and its neighbours",
        names="proxy proxy-host proxy-ip proxy-url",
    ),
    Group(
        "private fields of WebLogic and of WebSphere's plug-in ($WSRU, $WSSN, ...)",
        prefixes="-ws wl-proxy-",
    ),
    Group(
        "what a renderer in front of React Router says",
        names="x-react-router-prerender-data x-react-router-spa-mode",
    ),
)

_NAMES = frozenset(name.encode("ascii") for group in GROUPS for name in group.names.split())

# The beginnings by their own first bytes: a client may send a thousand names that were never seen before.
_START = 3
_PREFIXES: dict[bytes, tuple[bytes, ...]] = {}
for _prefix in sorted(prefix.encode("ascii") for group in GROUPS for prefix in group.prefixes.split()):
    _PREFIXES[_prefix[:_START]] = (*_PREFIXES.get(_prefix[:_START], ()), _prefix)


def is_claimed(name: bytes) -> bool:
    """Return whether a name, in folded spelling, is in one of the groups."""
    return name in _NAMES or name.startswith(_PREFIXES.get(name[:_START], ()))
