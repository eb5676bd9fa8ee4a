"""Checks of one entry of ``[[upstreams]]`` that need several of its options, or the files that they name."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.settings.faults import KeyPath
from gateway.settings.problems import Problem, Sound
from gateway.settings.readable import authorities_problem, certificate_problem
from gateway.settings.tables.upstreams import UpstreamSettings
from gateway.settings.values import url_key

_TLS = ("tls_client_cert", "tls_client_key", "tls_ca_file", "tls_server_name")


def upstream_problems(upstream: UpstreamSettings, place: KeyPath, sound: Sound) -> Iterator[Problem]:
    """Return what is wrong with the URLs of one upstream and with its TLS options."""
    urls = [url_key(url) for url in upstream.urls]
    for number, url in enumerate(urls):
        if url in urls[:number]:
            yield (*place, "urls", number), f"is also urls[{urls.index(url)}]: each URL has one pool"
    if not sound.options(place, "urls", *_TLS):
        return
    if not any(url.startswith("https://") for url in upstream.urls):
        given = (name for name in _TLS if getattr(upstream, name))
        yield from (((*place, name), "has no effect: none of the `urls` is https://") for name in given)
        return
    certificate, key = upstream.tls_client_cert, upstream.tls_client_key
    if certificate and not key:
        yield (*place, "tls_client_key"), "is required with `tls_client_cert`"
    elif key and not certificate:
        yield (*place, "tls_client_cert"), "is required with `tls_client_key`"
    elif certificate and (problem := certificate_problem(certificate, key, _TLS[:2])):
        yield (*place, problem[0]), problem[1]
    if upstream.tls_ca_file and (text := authorities_problem(upstream.tls_ca_file)):
        yield (*place, "tls_ca_file"), text
