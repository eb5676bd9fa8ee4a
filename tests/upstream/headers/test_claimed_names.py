"""The names that services take from a proxy in front of them."""

from __future__ import annotations

import pytest

from gateway.upstream.headers.claimed_names import GROUPS, is_claimed
from gateway.upstream.headers.header_policy import Action, fold, header_policy

TARGETS = """
SCRIPT_NAME PATH_INFO Script-Name X-Script-Name Daphne-Root-Path Request-Uri X-Request-Uri X-Override-Url
X-Envoy-Original-Path X-Original-URL X-Original-URI X-Original-Method X-Original-Host X-Rewrite-URL
X-Forwarded-Prefix X-Forwarded-Uri X-Forwarded-Method X-Forwarded-Path X-HTTP-Method X-HTTP-Method-Override
X-Method-Override X-Middleware-Subrequest l5d-dst-override X-Ingress-Path X-Matched-Path X-Accel-Mapping
X-Sendfile-Type X-ProxyContextPath X-Request-Base Redirect-Url QUERY_STRING REQUEST_METHOD
Method-Override X-HTTP-Verb X-Override-Method X-Base X-Path-Base X-Rewritten-Url SCRIPT_URL X-VHM-Host X-Astro-Path
X-JFrog-Override-Base-Url spring.cloud.function.routing-expression CamelHttpUri dapr-app-id X-CF-App-Instance
X-WebObjects-Server-Name X-MS-Endpoint-Absolute-Path Redirect-Query-String
"""
SENDERS = """
Remote-User REMOTE_USER X-Remote-User X-Remote-Group X-Remote-Extra-scopes Remote-Groups X-WebAuth-User X-WEBAUTH-ROLE
X-Auth-Request-User X-Auth-Request-Email X-MS-Client-Principal X-MS-CLIENT-PRINCIPAL-ID X-Goog-Authenticated-User-Email
X-Goog-IAP-JWT-Assertion X-Amzn-Oidc-Data X-Amzn-Oidc-Identity Cf-Access-Jwt-Assertion
Cf-Access-Authenticated-User-Email Tailscale-User-Login X-Forwarded-User X-Forwarded-Groups X-Forwarded-Email
X-Forwarded-Access-Token X-Pomerium-Claim-Email X-Authentik-Username X-Vouch-User X-Authenticated-Userid
X-Consumer-Username X-AppEngine-User-Email X-Endpoint-API-UserInfo OIDC_CLAIM_sub SM_USER iv-user Shib-Session-ID
X-User X-User-Name X-User-Groups X-Proxy-User Kubeflow-UserId X-Spinnaker-User X-ProxiedEntitiesChain
Impersonate-User Impersonate-Extra-scopes X-Trino-User Php-Auth-User Sf-Context-Current-User X-SP-UserId
Ngrok-Auth-User-Email X-Identity-Status X-Is-Admin-Project X-Service-Roles Affiliation Lm-Remote-User X-Subject
X-Group X-Scopes X-Permissions X-Auth-Login X-Amzn-Ava-User-Context X-CloudTasks-QueueName Es-Security-Runas-User
RStudio-Connect-Credentials X-OIDC-Sub X-On-Behalf-Of X-Citrix-Via-Vip Argocd-User-Groups X-IIS-WindowsAuthToken
Grpc-Metadata-X-Remote-User Grpc-Metadata-X-Forwarded-User
"""
CONNECTIONS = """
Client-IP X-Client-IP Proxy-Client-IP WL-Proxy-Client-IP WL-Proxy-SSL X-Original-Forwarded-For Forwarded-For
Fly-Client-IP X-Azure-ClientIP X-Azure-SocketIP X-Envoy-External-Address X-Scheme X-Forwarded-Scheme X-Forwarded-Ssl
X-Host X-HTTP-Host-Override X-Amzn-Mtls-Clientcert X-ARR-SSL X-ARR-ClientCert X-Real-IP True-Client-IP
CF-Connecting-IP CF-Connecting-IPv6 CF-IPCountry Fastly-Client-IP X-Cluster-Client-Ip X-ProxyUser-Ip
X-Forwarded-Client-Cert X-Client-Cert X-SSL-Client-S-DN SSL_CLIENT_VERIFY Ssl-Client-Cert Client-Cert Front-End-Https
X-Url-Scheme X-AppEngine-User-IP CloudFront-Viewer-Address Akamai-Origin-Hop Forwarded-Host $WSRH Proxy Remote-Addr
X-Wap-Network-Client-Ip X-MSISDN X-Proxied-Https Proxy-Ssl-Id X-ProxyScheme X-ProxyHost Coming-From
X-True-IP X-RealIP EO-Connecting-IP AR-Real-IP X-Peer-Address X-MS-Forwarded-Client-IP X-MS-Proxy X-WebLogic-Force-JVMID
Proxy-Keysize X-Client-Fingerprint ClientProtocol X-Virtual-Host X-Proxy-Scheme X-Originating-Host X-Client-Tls-Version
"""
HARMLESS = """
Accept Accept-Language Authorization-Hint Baggage Cache-Control CDN-Loop CF-Ray Content-Type Cookie DNT Early-Data
If-None-Match Idempotency-Key Link Max-Forwards Origin Prefer Priority Range Referer RSC Next-Action Sec-Fetch-Site
Sentry-Trace Stripe-Signature Tracestate Traceparent Uber-Trace-Id User-Agent Via X-Access-Token X-Amz-Date
X-Amz-Security-Token X-Amzn-Trace-Id X-Api-Key X-Api-Version X-App-Version X-Auth-Key X-Auth-Token X-B3-TraceId
X-Client-Data X-Client-Id X-Client-Name X-Client-Trace-Id X-Client-Version X-Cloud-Trace-Context X-Correlation-Id
X-CSRF-Token X-CSRFToken X-Datadog-Trace-Id X-Device-Id X-Functions-Key X-Github-Event X-Gitlab-Token
X-Goog-Api-Client X-Goog-Api-Key X-Goog-User-Project X-Grpc-Web X-Hub-Signature-256 X-Ms-Client-Request-Id X-Ms-Date
X-Ms-Version X-Nextjs-Data X-Requested-With X-Session-Id X-Slack-Signature X-Tenant-Id X-Timezone X-Trace X-Upload-Id
X-User-Agent X-Wap-Profile X-XSRF-TOKEN GraphQL-Require-Preflight HX-Request Grpc-Timeout Mcp-Session-Id
X-Custom-1 X-Method X-Path Uid Access-Token Redirects X-Basement Mailto X-Token X-Groups-Page
Grpc-Metadata-X-Page Argocd-Application-Name Ngrok-Skip-Browser-Warning X-Vault-Token X-Clickhouse-User X-Vercel-Id
Api-Username Sudo
"""


@pytest.mark.parametrize("name", [*TARGETS.split(), *SENDERS.split(), *CONNECTIONS.split()])
@pytest.mark.rule("R227", "R259", "R260", "R401", "R402")
def test_what_services_believe_of_proxies_is_no_clients_to_say(name: str) -> None:
    """In every letter case, with other characters for the hyphens, pass or drop."""
    for spelling in (name, name.lower(), name.upper(), name.replace("-", "_"), name.replace("-", ".")):
        for plain_only in (True, False):
            policy = header_policy(("x-id",), b"gw", plain_only=plain_only)
            assert policy.learn(spelling.encode()) is Action.DROP, spelling
            assert not policy.blind_to(spelling.encode())


@pytest.mark.parametrize("name", HARMLESS.split())
@pytest.mark.rule("R264")
def test_what_clients_have_to_say_passes(name: str) -> None:
    """Tracing, credentials that services check themselves, and what browsers and libraries add."""
    policy = header_policy(("x-id",), b"gw")
    assert policy.learn(name.encode()) is Action.KEEP
    assert policy.learn(name.upper().encode()) is Action.KEEP


@pytest.mark.rule("R264")
def test_a_name_that_only_begins_like_a_listed_one_passes() -> None:
    """Whole names are whole names."""
    for name in (b"script-names", b"x-hosted-by", b"https-only", b"x-roles-count", b"proxying", b"wl-proxies", b""):
        assert not is_claimed(name)


def test_every_name_is_in_the_spelling_that_is_compared() -> None:
    """A name in another spelling would never be found."""
    for group in GROUPS:
        assert group.reason
        assert group.names or group.prefixes
        for name in (*group.names.split(), *group.prefixes.split()):
            assert fold(name.encode()) == name.encode(), name
            assert is_claimed(name.encode())
            assert len(name) >= 3


@pytest.mark.parametrize("spelling", [b"X-Team", b"x-team", b"X_Team", b"X.TEAM"])
@pytest.mark.rule("R402")
def test_the_configuration_adds_names(spelling: bytes) -> None:
    """``strip_headers``, in every spelling; and nothing else goes with them."""
    for plain_only in (True, False):
        policy = header_policy((), b"gw", stripped=["x_team"], plain_only=plain_only)
        assert policy.learn(spelling) is Action.DROP
        assert policy.learn(b"X-Teams") is Action.KEEP
