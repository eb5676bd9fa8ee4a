"""Options of upstreams: forms of a URL, health paths, and TLS files that must fit together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.settings import values
from tests.settings.configs import changed, faults_of
from tests.support.certificates import authority


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("unix:/run/up.sock", ("/run/up.sock", "")),
        ("unix:/run/up.sock:/", ("/run/up.sock", "/")),
        ("unix:/run/up.sock:/base/a:b", ("/run/up.sock", "/base/a:b")),
        ("unix:/" + "a" * 106, ("/" + "a" * 106, "")),
    ],
)
def test_socket_with_its_base_path(text: str, parts: tuple[str, str]) -> None:
    assert values.upstream_url(text) == text
    assert values.split_socket_url(text) == parts


# fmt: off
@pytest.mark.parametrize(
    ("text", "fault"),
    [("unix:", "absolute"), ("unix:run/up.sock", "absolute"), ("unix:/run/", "absolute"), ("unix:/", "absolute"),
     ("unix://run/up.sock/", "absolute"), ("unix:/run/up.sock:", "begins with"), ("unix:/run/up.sock:base", "begins"),
     ("unix:/run/up.sock:/a?b", "query"), ("unix:/run/up.sock:/a#b", "fragment"), ("unix:/a b", "printable"),
     ("unix:/a\0b", "printable"), ("unix:/ä", "printable"), ("unix:/s:/a/../b", "dot segments"),
     ("unix:/s:/%2e%2E", "dot segments"), ("unix:/s:/a//b", "empty segment"), ("unix:/" + "a" * 107, "107"),
     ("http+unix://%2Frun%2Fup.sock", "must begin with http"), ("UNIX:/run/up.sock", "must begin with http")],
)
def test_other_socket_urls_are_refused(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        values.upstream_url(text)
# fmt: on


def test_scheme_has_one_spelling() -> None:
    """What follows from https:// must not depend on how it is written (RFC 3986 section 3.1)."""
    assert values.upstream_url("HttpS://UP.test/Base") == "https://UP.test/Base"


@pytest.mark.parametrize("text", ["", "/", "/up", "/up/?deep=1&x=%2F", "/a:b;c"])
def test_health_path_is_empty_or_a_path(text: str) -> None:
    assert values.health_path(text) == text


@pytest.mark.parametrize(
    "text", ["up", "//evil.test/up", "http://evil.test/", "/a b", "/a\r\nX: y", "/a#b", "/\\a", "/é"]
)
def test_other_health_paths_are_refused(text: str) -> None:
    """Nothing that could be read as another host, or end the request's line."""
    with pytest.raises(ValueError, match=r"path|begin"):
        values.health_path(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [("", ""), ("Up.Test.", "up.test"), ("10.0.0.7", "10.0.0.7"), ("2001:DB8::0:1", "2001:db8::1")],
)
def test_name_to_find_in_a_certificate(text: str, name: str) -> None:
    assert values.tls_name(text) == name


@pytest.mark.parametrize("text", ["up.test:443", "https://up.test", "*.up.test", "up test", "[::1]"])
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        values.tls_name(text)


def faults(directory: Path, *urls: str, **options: Any) -> list[str]:
    return faults_of(directory, changed("upstreams", urls=list(urls), **options))


# fmt: off
@pytest.mark.parametrize(
    ("one", "other", "same"),
    [("http://up.test", "HTTP://UP.test:80/", True), ("https://up.test:443/a/", "https://up.test/a", True),
     ("unix:/s", "unix:/s:/", True), ("http://up.test", "https://up.test", False), ("unix:/s", "unix:/s:/a", False),
     ("http://up.test:80/a", "http://up.test/b", False), ("http://up.test:81", "http://up.test", False)],
)
def test_one_url_in_two_spellings_is_a_fault(one: str, other: str, same: bool, tmp_path: Path) -> None:
    """It would have two pools under one name in the metrics."""
    expected = ["upstreams[0].urls[2]: is also urls[0]: each URL has one pool"] if same else []
    assert faults(tmp_path, one, "http://third.test", other) == expected
# fmt: on


def test_tls_options_without_an_https_url_are_a_fault(tmp_path: Path) -> None:
    """Who sets them believes that the connection is protected."""
    names = ["tls_client_cert", "tls_client_key", "tls_ca_file", "tls_server_name"]
    lines = faults(tmp_path, "http://up.test", "unix:/run/up.sock", **dict.fromkeys(names, "x"))
    assert lines == [f"upstreams[0].{name}: has no effect: none of the `urls` is https://" for name in names]


@pytest.mark.rule("R381")
def test_tls_files_must_be_there_and_fit(tmp_path: Path) -> None:
    """What would fail at the start, or with the first request, is named by `check`."""
    ca = authority(tmp_path / "ca")
    one, other = ca.sign("one", "one.test"), ca.sign("other", "other.test")
    text = tmp_path / "text.pem"
    text.write_text("no certificate")

    def https(**files: object) -> list[str]:
        return faults(tmp_path, "http://a.test", "https://b.test", **{name: str(file) for name, file in files.items()})

    place, missing = "upstreams[0]", "this file cannot be read: no such file or directory"
    assert https(tls_client_cert=one.cert, tls_client_key=one.key, tls_ca_file=ca.bundle) == []
    assert https(tls_client_cert=one.cert) == [f"{place}.tls_client_key: is required with `tls_client_cert`"]
    assert https(tls_client_key=one.key) == [f"{place}.tls_client_cert: is required with `tls_client_key`"]
    assert https(tls_client_cert=tmp_path / "no", tls_client_key=one.key) == [f"{place}.tls_client_cert: {missing}"]
    assert https(tls_client_cert=one.cert, tls_client_key=tmp_path / "no") == [f"{place}.tls_client_key: {missing}"]
    assert https(tls_client_cert=one.cert, tls_client_key=other.key) == [
        f"{place}.tls_client_key: is not the key of the certificate in `tls_client_cert`"
    ]
    assert https(tls_client_cert=text, tls_client_key=one.key) == [
        f"{place}.tls_client_cert: and `tls_client_key` do not form a PEM certificate chain and its private key"
    ]
    assert https(tls_ca_file=tmp_path / "no") == [f"{place}.tls_ca_file: {missing}"]
    assert https(tls_ca_file=text) == [f"{place}.tls_ca_file: this file holds no PEM certificates"]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("eject_after_failures", -1),
        ("eject_after_failures", 1.5),
        ("eject_max_seconds", 0),
        ("health_interval_seconds", 0.05),
        ("health_timeout_seconds", 0),
        ("pool_max_age_seconds", -1),
        ("health_path", "up"),
        ("tls_server_name", "*.test"),
    ],
)
def test_values_out_of_bounds_are_named(option: str, value: object, tmp_path: Path) -> None:
    (line,) = faults(tmp_path, "https://up.test", **{option: value})
    assert line.startswith(f"upstreams[0].{option}: ")


def test_faulty_url_causes_no_second_fault(tmp_path: Path) -> None:
    """It is not known what the TLS options are for while a URL cannot be read."""
    (line,) = faults(tmp_path, "http//up.test", tls_server_name="up.test")
    assert line.startswith("upstreams[0].urls[0]: ")
