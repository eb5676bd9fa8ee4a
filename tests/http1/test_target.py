"""The path guard: every accepted target has one reading, and the upstream gets the client's bytes."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.errors import GatewayError, Reason, Reasons
from gateway.http1.target import Target, parse_target


def reading(target: bytes, method: str = "GET", *, secure: bool = False) -> Target | Reason:
    """What the guard makes of a target; the reason when it refuses."""
    try:
        return parse_target(method, target, secure=secure)
    except GatewayError as error:
        return error.reason


def refusal(target: bytes, method: str = "GET", *, secure: bool = False) -> Reason:
    with pytest.raises(GatewayError) as caught:
        parse_target(method, target, secure=secure)
    return caught.value.reason


@pytest.mark.parametrize(
    ("target", "match_path"),
    [
        pytest.param(b"/", "/", id="root"),
        pytest.param(b"/orders/1", "/orders/1", id="plain"),
        pytest.param(b"/orders/", "/orders/", id="trailing slash counts"),
        pytest.param(b"/Orders", "/Orders", id="case counts"),
        pytest.param(b"/admin.", "/admin.", id="trailing dot counts"),
        pytest.param(b"/admin%20", "/admin ", id="trailing space counts"),
        pytest.param(b"/.well-known/x", "/.well-known/x", id="leading dot"),
        pytest.param(b"/a/...", "/a/...", id="three dots are a name"),
        pytest.param(b"/a/..b", "/a/..b", id="dots begin a name"),
        pytest.param(b"/a/b..", "/a/b..", id="dots end a name"),
        pytest.param(b"/%61dmin", "/admin", id="encoded letter"),
        pytest.param(b"/%7Euser", "/~user", id="encoded tilde"),
        pytest.param(b"/a%2Bb", "/a+b", id="encoded plus"),
        pytest.param(b"/a+b", "/a+b", id="a plus is no space"),
        pytest.param(b"/a%3Fb%23c", "/a?b#c", id="encoded delimiters are text"),
        pytest.param(b"/%E2%82%AC", "/\N{EURO SIGN}", id="UTF-8"),
        pytest.param(b"/%252e%252e/x", "/%2e%2e/x", id="decoded once"),
        pytest.param(b"/%25252f", "/%252f", id="decoded once, three deep"),
        pytest.param(b"/admin;x", "/admin", id="parameters left out"),
        pytest.param(b"/a;v=1/b;w=%2e;/c", "/a/b/c", id="parameters of each segment"),
        pytest.param(b"/a/;jsessionid=1", "/a/", id="a last segment of parameters only"),
        pytest.param(b"/a%3Bb", "/a;b", id="an encoded semicolon is text"),
        pytest.param(b'/a|b^c`{d}<e>"[f]', '/a|b^c`{d}<e>"[f]', id="visible ASCII outside RFC 3986"),
    ],
)
@pytest.mark.rule("R228", "R232", "R235", "R238", "C45", "C46")
def test_rules_read_the_path_decoded_once_and_without_parameters(target: bytes, match_path: str) -> None:
    """One reading; the bytes stay as received."""
    parsed = parse_target("GET", target)
    assert parsed == Target(target, None, match_path, False, None)
    assert parsed.raw() == target


@pytest.mark.parametrize("target", [b"/a%2Fb", b"/a%2fb", b"/a;x=%2F", b"/a/%2F/b", b"/http%3A%2F%2Fh%2Fx"])
@pytest.mark.rule("R231")
def test_encoded_slash_is_reported_and_stays_text(target: bytes) -> None:
    """Whether it is served is the route's decision; it never separates segments."""
    parsed = parse_target("GET", target)
    assert parsed.encoded_slash
    assert parsed.path == target
    assert parsed.match_path.count("/") == target.count(b"/")
    assert not parse_target("GET", b"/a%252Fb").encoded_slash


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.decode("latin-1"))
        for path in (
            # R229, R230: dot segments plain, encoded, mixed
            *(b"/pub/../admin", b"/pub/./x", b"/..", b"/.", b"/../", b"/./admin", b"/a/..", b"/a/."),
            *(b"/pub/%2e%2e/admin", b"/pub/.%2e/x", b"/pub/%2E./x", b"/%2e", b"/a/%2e/b", b"/%2e%2E"),
            # R231: through an encoded slash, in every place
            *(b"/pub/..%2fadmin", b"/pub%2f..%2fadmin", b"/pub%2F%2e%2e", b"/a%2f.", b"/a%2f./b", b"/a;b%2F..%2Fc"),
            *(b"/pub/..%5cadmin", b"/pub/%5C..%5cadmin", b"/a\\b", b"/\\..\\admin"),
            # R233, R234
            *(b"//admin", b"///admin", b"/a//b", b"/a//", b"//", b"//evil.test/x"),
            # R235: with parameters
            *(b"/public;/../admin", b"/a/..;/b", b"/a/..;x=1/b", b"/a/.;/b", b"/a/..;", b"/a/%2e%2e;/b"),
            *(b"/a/..%3b/b", b"/a/..%3Bx", b"/;/admin", b"/a/;x/b", b"/%3bx/admin"),
            # R236: controls
            *(b"/a%00", b"/a%0d%0aX:%201", b"/a%0A", b"/a%09", b"/a%1f", b"/a%7f", b"/a%7F", b"/a%C2%85"),
            *(b"/a\x00", b"/a\tb", b"/a b", b"/a\x7f", b"/a\r", b"/a\n"),
            # R237: bad coding
            *(b"/a%", b"/a%2", b"/a%zz", b"/%%41", b"/%u0041", b"/%c0%ae%c0%ae/x", b"/%c0%af", b"/%ff"),
            *(b"/%e2%82", b"/%ed%a0%80", b"/%f8%88%80%80%80", b"/%e0%80%ae"),
            *(b"/\xc3\xa9", b"/\xff"),
        )
    ],
)
@pytest.mark.rule("R229", "R230", "R231", "R232", "R233", "R234", "R235", "R236", "R237", "C46")
def test_paths_with_two_readings_are_refused(path: bytes) -> None:
    """Never repaired, whatever the query and the form of the target."""
    assert refusal(path) is Reasons.BAD_PATH
    assert refusal(path + b"?a=b") is Reasons.BAD_PATH
    assert refusal(b"http://h" + path) is Reasons.BAD_PATH


@pytest.mark.parametrize(
    ("target", "query"),
    [
        (b"/x", None),
        (b"/x?", b""),
        (b"/x??", b"?"),
        (b"/x?q=a&q=b&q=", b"q=a&q=b&q="),
        (b"/x?a;b", b"a;b"),
        (b"/x?x=%7e&y=a+b&[]={}&%zz", b"x=%7e&y=a+b&[]={}&%zz"),
        (b"/x?next=/../admin//", b"next=/../admin//"),
        (b"/x?%00%0d%0a", b"%00%0d%0a"),
        (b"/a%20b?\\", b"\\"),
    ],
)
@pytest.mark.rule("R241", "C45")
def test_query_is_kept_byte_for_byte(target: bytes, query: bytes | None) -> None:
    parsed = parse_target("GET", target)
    assert parsed.query == query
    assert parsed.raw() == target


@pytest.mark.parametrize("query", [b"a b", b"\xc3\xa9", b"a\x00", b"a\tb", b"a\r\nb", b"\x7f", b"a#b", b"#"])
@pytest.mark.rule("R240", "R241")
def test_query_outside_visible_ascii_is_refused(query: bytes) -> None:
    """What could end or split a request line."""
    assert refusal(b"/x?" + query) is Reasons.BAD_TARGET
    assert refusal(b"/a%20b?" + query) is Reasons.BAD_TARGET


@pytest.mark.parametrize("target", [b"/a#", b"/a#/../admin", b"/a%20#b", b"/#?x", b"http://h/a#b", b"http://h#b"])
@pytest.mark.rule("R240")
def test_fragment_is_refused(target: bytes) -> None:
    assert refusal(target) is Reasons.BAD_TARGET


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"http://api.test/a?b", Target(b"/a", b"b", "/a", False, b"api.test")),
        (b"HTTP://API.test:80/", Target(b"/", None, "/", False, b"API.test:80")),
        (b"http://api.test", Target(b"/", None, "/", False, b"api.test")),
        (b"http://api.test?b=/", Target(b"/", b"b=/", "/", False, b"api.test")),
        (b"http://[::1]:8080/%61", Target(b"/%61", None, "/a", False, b"[::1]:8080")),
    ],
)
@pytest.mark.rule("R221")
def test_absolute_form_is_cut_to_origin_form_and_authority(target: bytes, expected: Target) -> None:
    """Its authority replaces Host, and can never choose an upstream."""
    assert parse_target("GET", target) == expected
    assert not expected.raw().startswith(b"http")


@pytest.mark.parametrize(
    "target",
    [
        *(b"http://u:p@evil/", b"http://u@evil", b"http://@evil/", b"http:///x", b"http:/x", b"http:x", b"http://"),
        *(b"file:///etc/passwd", b"ftp://h/", b"ws://h/", b"javascript:1", b"https://h/", b"HTTPS://h/"),
        *(b"evil:443", b"h", b"*", b"", b"?", b"?a=b", b"a/b", b" /a", b"\\a", b"%2fa"),
    ],
)
@pytest.mark.rule("R222", "R223", "R225")
def test_other_forms_are_refused(target: bytes) -> None:
    """Userinfo, other schemes, https without TLS, authority form, the asterisk, nothing."""
    for method in ("GET", "OPTIONS", "CONNECT"):
        assert refusal(target, method) is Reasons.BAD_TARGET


@pytest.mark.rule("R222")
def test_absolute_https_needs_a_secured_connection() -> None:
    """RFC 9110 section 7.4; over TLS it is the ordinary absolute form."""
    assert parse_target("GET", b"https://h/a", secure=True).authority == b"h"
    assert parse_target("GET", b"http://h/a", secure=True).authority == b"h"
    assert refusal(b"https://u@h/a", secure=True) is Reasons.BAD_TARGET


@pytest.mark.rule("R225")
def test_absolute_spelling_of_the_asterisk_is_refused() -> None:
    """OPTIONS for the server as a whole belongs to no route (RFC 9112 section 3.2.4)."""
    assert refusal(b"http://h", "OPTIONS") is Reasons.BAD_TARGET
    assert parse_target("OPTIONS", b"http://h/").path == b"/"
    assert parse_target("OPTIONS", b"http://h?a").query == b"a"


@pytest.mark.rule("R273")
def test_long_targets_are_read_like_short_ones() -> None:
    """The memory for repeated targets holds short ones; the reading is the same."""
    path = b"/" + b"a/" * 20_000 + b"b"
    assert parse_target("GET", path).match_path == path.decode()
    assert refusal(path + b"/..") is Reasons.BAD_PATH
    assert refusal(b"/" + b";" * 40_000 + b"/x") is Reasons.BAD_PATH


# --- against an independent reading ---

# Pieces from which ambiguous paths are made, besides anything else.
_PIECES = st.sampled_from(
    [
        *(b"/", b"/", b"a", b"B", b".", b"..", b";", b";x=1", b"//", b"%2e", b"%2E", b"%2f", b"%2F", b"%5c", b"\\"),
        *(b"%25", b"%252e", b"%00", b"%3b", b"%41", b"%c3%a9", b"%c0%ae", b"%ff", b"%", b"%7f", b"~", b"+", b"?", b"#"),
        *(b"http://h", b"@", b":", b" ", b"\t", b"\xe9", b"*"),
    ]
)
targets = st.lists(_PIECES | st.binary(max_size=3), max_size=12).map(b"".join)
rooted = targets.map(lambda target: b"/" + target)


def independent_reading(path: bytes, *, slashes: bool) -> str | None:
    """Strip parameters, decode once, resolve dots, merge slashes: what the most eager upstream does.

    None where it would leave the root. With ``slashes``, ``%2F`` separates segments.
    """
    if slashes:
        path = re.sub(rb"%2[fF]", b"/", path)
    resolved: list[str] = []
    segments = [unquote_to_bytes(segment.split(b";")[0]).decode("utf-8", "replace") for segment in path.split(b"/")]
    for number, segment in enumerate(segments):
        last = number == len(segments) - 1
        if segment == "..":
            if not resolved:
                return None
            resolved.pop()
        if segment in ("", ".", ".."):
            if last:
                resolved.append("")
        else:
            resolved.append(segment)
    return "/" + "/".join(resolved)


@given(st.sampled_from(["GET", "OPTIONS", "POST"]), targets | rooted | st.binary(max_size=40), st.booleans())
@pytest.mark.rule("R228")
def test_anything_is_read_or_refused(method: str, target: bytes, secure: bool) -> None:
    """No other exception, whatever arrives."""
    parsed = reading(target, method, secure=secure)
    if isinstance(parsed, Reason):
        assert parsed in (Reasons.BAD_PATH, Reasons.BAD_TARGET)
    else:
        assert parsed.raw() == target or parsed.authority is not None
        assert target.endswith(parsed.raw()) or parsed.path == b"/"


@given(rooted)
@example(b"/a;b/c")
@example(b"/%61%2e/b")
@example(b"/a%2Fb;c/d")
@pytest.mark.rule("R228", "R229", "R230", "R231", "R232", "R233", "R234", "R235", "C46")
def test_no_accepted_path_means_something_else_upstream(target: bytes) -> None:
    """An upstream that resolves, merges, strips and decodes arrives at the path of the rules."""
    parsed = reading(target)
    if isinstance(parsed, Reason):
        return
    # "%2F" in the rules' reading is ambiguous with a decoded "%252F"; the flag says which it was.
    if not parsed.encoded_slash:
        assert independent_reading(parsed.path, slashes=False) == parsed.match_path
        return
    # An upstream that takes %2F for a separator still never leaves the segments before it.
    resolved = independent_reading(parsed.path, slashes=True)
    assert resolved is not None
    head = re.split("%2F", parsed.match_path)[0].rstrip("/")
    assert resolved.startswith(head)


@given(rooted)
@pytest.mark.rule("R230", "R238")
def test_encoding_an_unreserved_character_changes_nothing_for_the_rules(target: bytes) -> None:
    """/%61dmin is /admin, and a refused path stays refused."""
    letter = re.search(rb"(?<!%)(?<!%[0-9A-Fa-f])[A-Za-z.~]", target.partition(b"?")[0].partition(b"#")[0])
    if letter is None:
        return
    coded = target[: letter.start()] + b"%%%02X" % letter[0][0] + target[letter.end() :]
    plain, other = reading(target), reading(coded)
    if isinstance(plain, Reason) or isinstance(other, Reason):
        assert other is plain
    else:
        assert other.match_path == plain.match_path
