"""Request fields that services take from the proxy in front of them: from a client they are claims about itself.

This file has the list: names that move the target of a request, or say who sends it, from where, over what and to
which host, each group with the software that believes it. ``header_policy.py`` drops them from every request. The
danger of this file is a name that is missing: a service that believes it has no rules any more.
``[server] strip_headers`` adds the names of one's own services. Tracing fields, credentials that a service checks
itself, and what browsers and libraries send to describe themselves are not here, even where they begin alike
(``X-Auth-Token``, ``X-User-Agent``, ``X-Client-Version``, ``X-Goog-Api-Key``).
"""

from __future__ import annotations

from typing import NamedTuple


class Group(NamedTuple):
    """Names that are dropped for one reason.

    Attributes:
        reason: which software believes them, and what.
        names: whole names in folded spelling (see ``header_policy.fold``), apart by white space.
        prefixes: beginnings of names, likewise.
    """

    reason: str
    names: str = ""
    prefixes: str = ""


GROUPS = (
    Group(
        "the path, query and method that a service acts on, instead of those of the request line",
        # X-Original-URL (IIS, Symfony) and -Method (nginx), Daphne-Root-Path, X-Middleware-Subrequest (Next.js,
        # CVE-2025-29927), X-Astro-Path, spring.cloud.function.* (CVE-2022-22963), CamelHttpUri and kin (Camel,
        # CVE-2025-27636), l5d-dst-override (Linkerd), dapr-app-id, X-Cf-App-Instance, X-VHM-Host (Zope), and what
        # Envoy treats as its own.
        names="context-document-root context-prefix dapr-app-id document-root document-uri k-original-host"
        " k-proxy-request method-override orig-path-info orig-script-name path-info path-translated php-self"
        " query-string raw-request-uri request-method request-path request-uri request-url script-filename"
        " script-name script-uri script-url unencoded-url x-action-forwarded x-artifactory-override-base-url"
        " x-base x-base-href x-base-path x-base-uri x-base-url x-context-path x-http-destinationurl"
        " x-http-method x-http-method-override x-http-override x-http-path-override x-http-request-method"
        " x-http-verb x-http-verb-override x-ingress-path x-jfrog-override-base-url x-matched-path"
        " x-method-override x-ms-endpoint-absolute-path x-ms-original-url x-next-resume-state-length"
        " x-now-route-matches x-override-method x-override-url x-path-base x-path-info x-path-prefix"
        " x-pathbase x-prefix x-proxy-context-path x-proxy-path x-proxy-prefix x-proxycontextpath"
        " x-query-string x-replaced-path x-request-base x-request-method x-request-path x-request-query"
        " x-request-target x-request-uri x-request-url x-rest-method x-root-path x-rsc-request x-script-name"
        " x-scriptname x-traversal-path x-url-prefix x-verb-override x-waws-unencoded-url",
        prefixes="camel daphne- knative-serving- l5d- redirect- spring-cloud-function- x-astro- x-cf- x-envoy-"
        " x-fission- x-iisnode- x-invoke- x-istio- x-middleware- x-netlify- x-original- x-rewrit x-vhm-"
        " x-webobjects-",
    ),
    Group(
        "the meta-variables of CGI (RFC 3875 section 4.1), which some gateways of services fill from headers",
        # Remote-User, Remote-Addr, ...; Remote-Groups (Authelia); Remote-Address (Akka, Pekko); Php-Auth-User, which
        # Symfony's Request::getUser returns.
        names="auth-digest auth-password auth-type cert-issuer cert-subject gateway-interface https local-addr"
        " logon-user request-scheme server-addr server-name server-port server-protocol server-software"
        " unmapped-remote-user",
        prefixes="php-auth- remote-",
    ),
    Group(
        "addresses of clients, as proxies and content delivery networks write them",
        names="ali-cdn-real-ip ar-real-ip cdn-client-ip cdn-real-ip cdn-src-ip cf-ew-via cf-visitor cf-worker"
        " client-address client-ip coming-from do-connecting-ip incap-client-ip ns-client-ip real-ip"
        " rlnclientipaddr true-client-ip true-client-port x-caller-ip x-cdn-client-ip x-cdn-src-ip"
        " x-client-addr x-client-address x-client-host x-client-ip x-client-port x-client-real-ip x-clientip"
        " x-coming-from x-connecting-ip x-custom-ip-authorization x-fd-healthprobe x-from-ip"
        " x-google-real-ip x-hwwaf-real-ip x-incap-client-ip x-ip x-ip-addr x-ip-address x-ipaddress"
        " x-orig-client-ip x-orig-ip x-origin-ip x-originip x-proxy-client-ip x-proxy-for x-proxy-real-ip"
        " x-proxyuser-ip x-realip x-remoteip x-source-ip x-sourceip x-src-ip x-trusted-ip x-user-addr"
        " x-user-ip x-zscaler-client-ip z-forwarded-for",
        prefixes="akamai- cf-bot- cf-cert- cf-client- cf-connecting- cf-ip cf-ja3 cf-ja4 cf-pseudo- cf-threat-"
        " cf-tls- cf-verified- cloudfront- eo-client- eo-connecting- fastly- fly-client- fly-forwarded-"
        " geoip- proxy-client- x-akamai- x-azure-clientip x-azure-fdid x-azure-socketip x-cluster-client"
        " x-geoip- x-nf- x-originating- x-peer- x-real- x-sucuri-client x-true- x-vercel-forwarded-"
        " x-vercel-internal- x-vercel-ip- x-vercel-proxied- x-vercel-proxy-",
    ),
    Group(
        "forwarding headers other than those that the gateway writes itself (forwarded.py)",
        # X-Forwarded-User, -Email, -Groups, -Uri, -Prefix, -Scheme, -Ssl, -Client-Cert, -Access-Token, ...
        prefixes="forwarded- x-forward",
    ),
    Group(
        "the host that was asked for",
        names="disguised-host host-override was-default-hostname x-backend-host x-custom-host x-external-host"
        " x-host x-host-override x-http-host x-http-host-override x-origin-host x-proxy-host x-proxy-port"
        " x-proxyhost x-proxyport x-server-name x-server-port x-vhost x-virtual-host x-virtualhost",
    ),
    Group(
        "the scheme, and what TLS had to say",
        names="clientprotocol front-end-https timeout-access tls-session-info x-client-scheme x-external-proto"
        " x-external-scheme x-http-scheme x-https x-proto x-protocol x-proxy-proto x-proxy-protocol"
        " x-proxy-scheme x-proxyscheme x-request-scheme x-scheme x-url-scheme",
        prefixes="ssl- tls-client- x-amzn-tls- x-appservice- x-arr- x-sap-webdisp- x-ssl x-tls-",
    ),
    Group(
        "client certificates",
        # Client-Cert and Client-Cert-Chain are those of RFC 9440.
        names="client-dn client-verify proxy-cipher proxy-issuer-dn proxy-jroute proxy-keysize"
        " proxy-secret-keysize x-cert-subject x-certificate-subject x-client-cn x-client-fingerprint"
        " x-client-san x-client-serial x-client-spki x-clientcert x-issuer-dn x-spiffe-id x-subject-dn",
        prefixes="client-cert ms-aspnetcore- proxy-auth-cert proxy-ssl- x-amzn-mtls- x-client-cert x-client-dn"
        " x-client-i-dn x-client-issuer x-client-s-dn x-client-ssl x-client-subject x-client-tls"
        " x-client-verify x-mtls-",
    ),
    Group(
        "the user, as authenticating proxies and service meshes write it",
        # X-Auth-Request-* (oauth2-proxy), X-WEBAUTH-* (Grafana), X-Consumer-* (Kong), iv-* (WebSEAL), Impersonate-*
        # (Kubernetes), X-Trino-User, Sf-Context-* (Snowflake), X-SP-UserId (ShinyProxy), X-Is-Admin-Project and
        # X-Identity-Status (OpenStack), affiliation and kin (Shibboleth), ...
        names="affiliation auth-cn auth-display-name auth-dn auth-email auth-groups auth-id auth-login auth-mail"
        " auth-name auth-roles auth-sub auth-user authenticated-user entitlement eppn es-security-runas-user"
        " mail on-behalf-of openstack-system-scope pairwise-id persistent-id primary-affiliation smuser"
        " subject-id targeted-id unscoped-affiliation x-act-as x-admin x-anonymous-consumer x-auth-account"
        " x-auth-admin x-auth-audience x-auth-claims x-auth-client-id x-auth-display-name x-auth-dn"
        " x-auth-email x-auth-entitlements x-auth-expiresin x-auth-family-name x-auth-given-name"
        " x-auth-group x-auth-groups x-auth-id x-auth-identity x-auth-login x-auth-mail x-auth-name"
        " x-auth-org x-auth-permissions x-auth-preferred-username x-auth-principal x-auth-realm x-auth-role"
        " x-auth-roles x-auth-scope x-auth-scopes x-auth-sub x-auth-subject x-auth-tenant x-auth-uid"
        " x-authenticated x-authn-user x-claims x-commonaccesstoken x-credential-identifier x-email x-group"
        " x-groups x-identity x-identity-email x-identity-id x-identity-status x-identity-user"
        " x-iis-windowsauthtoken x-is-admin x-is-admin-project x-jwt-assertion x-jwt-email x-jwt-payload"
        " x-on-behalf-of x-permissions x-presto-user x-principal x-privileges x-qlik-user x-role x-roles"
        " x-run-as x-scopes x-sub x-subject x-subject-cn x-superuser x-trino-original-user x-trino-user"
        " x-trusted-user x-uid x-user x-user-claims x-user-dn x-user-email x-user-fullname x-user-group"
        " x-user-groups x-user-id x-user-info x-user-login x-user-mail x-user-name x-user-permissions"
        " x-user-role x-user-roles x-user-scope x-user-scopes x-user-sub x-user-subject x-user-uuid x-userid"
        " x-userinfo x-username",
        prefixes="-opendistro-security- argocd-user cas- dapr-callee- dapr-caller- eduperson- impersonate- iv-"
        " kubeflow- lm-remote- mellon- msexch ngrok-auth- oam- oidc- osso- plotly-user- posit-connect-"
        " proxy-remote- proxy-user rstudio-connect- saml- sf-caller- sf-context- shib- shiny-server- sm-"
        " tailscale- teleport- x-agw- x-auth-couchdb- x-auth-request- x-auth-user x-authelia-"
        " x-authenticated- x-authentik- x-citrix- x-claim- x-consumer- x-credential-username x-endpoint-api-"
        " x-hass- x-impersonat x-jwt-claim x-jwt-sub x-jwt-user x-knox-actor- x-oidc- x-openid-"
        " x-openwebui-user- x-pomerium- x-principal- x-proxied x-proxy-ext- x-proxy-remote- x-proxy-role"
        " x-proxy-user x-remote- x-rstudio- x-saml- x-service-role x-service-user- x-sp-user x-spinnaker-"
        " x-sso- x-token-claim x-token-info x-token-payload x-token-subject x-token-user- x-vouch-"
        " x-webauth- ynh-user",
    ),
    Group(
        "the user, the client and the context, as clouds write them",
        names="x-adfs-proxy-client-ip x-amzn-lambda-context x-amzn-request-context x-ms-adfs-proxy-client-ip"
        " x-ms-proxy x-waws-default-hostname",
        prefixes="cf-access- x-amzn-ava- x-amzn-oidc- x-amzn-waf- x-apigateway- x-appengine- x-cloudscheduler"
        " x-cloudtasks- x-goog-authenticated-user- x-goog-iap- x-ms-client-principal x-ms-forwarded-"
        " x-ms-token-",
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
        "private headers of WebLogic and of WebSphere's plug-in ($WSRU, $WSSN, ...)",
        prefixes="-ws wl-proxy- x-weblogic-",
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
