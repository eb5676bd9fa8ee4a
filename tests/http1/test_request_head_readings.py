"""The reader of heads beside a parser that is plain, slow, and obviously strict: same verdicts, same readings.

The parser is written from RFC 9112 as regular expressions over the whole head; it shares nothing with the reader but
the meaning of names, for which it asks anew at each line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.errors import Reason, Reasons
from gateway.http1.request_head import SMALL_HEAD, HeadReader, MalformedError, Meaning, RequestHead
from gateway.http1.trusted_proxies import ForwardedFields
from gateway.upstream.headers.header_policy import HeaderPolicy, header_policy
from tests.support.wire.any_message import folded, is_removed
from tests.support.wire.heads import PLAIN, reader_of

# --- the plain parser ---

METHOD = rb"[A-Z0-9_-]{1,32}"
REQUEST_LINE = re.compile(rb"(" + METHOD + rb") ([!-~]+) HTTP/1\.([01])\r\n")
OTHER_VERSION = re.compile(METHOD + rb" [!-~]+ HTTP/[0-9](?:\.[0-9])?\r\n")
LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([\t -~\x80-\xff]*)\r\n")
#: What is lines, whatever they say: how many there are is looked at before what they are.
LINES = re.compile(rb"(?:[\t -~\x80-\xff]*\r\n)+")


def plainly(block: bytes, policy: HeaderPolicy) -> RequestHead | Reason:
    """Return the reading of a head, or the reason for which it is refused."""
    line = REQUEST_LINE.match(block)
    if line is None:
        return Reasons.HTTP_VERSION if OTHER_VERSION.match(block) else Reasons.MALFORMED_HTTP
    rest = block[line.end() :]
    if LINES.fullmatch(rest) and rest.count(b"\r\n") > 1001:
        return Reasons.HEAD_TOO_LARGE
    lines: list[tuple[bytes, bytes, bytes]] = []
    while rest != b"\r\n":
        field = LINE.match(rest)
        if field is None:
            return Reasons.MALFORMED_HTTP
        lines.append((field[1], field[2].strip(b" \t"), field[0][:-2]))
        rest = rest[field.end() :]
    framed = framing([(name.lower(), value) for name, value, _ in lines], old=line[3] == b"0")
    return framed if isinstance(framed, Reason) else sorted_by_meaning(line, lines, framed, policy, len(block))


def framing(fields: Sequence[tuple[bytes, bytes]], *, old: bool) -> tuple[int | None, bool] | Reason:
    """Return the length and whether there are chunks (RFC 9112 sections 6.1 to 6.3)."""
    lengths = [value for name, value in fields if name == b"content-length"]
    codings = [value for name, value in fields if name == b"transfer-encoding"]
    if len(lengths) + len(codings) > 1:
        return Reasons.MALFORMED_HTTP
    if any(re.fullmatch(rb"[0-9]{1,18}", length) is None for length in lengths):
        return Reasons.MALFORMED_HTTP
    if codings and (old or codings[0].lower() != b"chunked"):
        return Reasons.MALFORMED_HTTP
    return (int(lengths[0]) if lengths else None), bool(codings)


def sorted_by_meaning(
    line: re.Match[bytes],
    lines: Sequence[tuple[bytes, bytes, bytes]],
    framed: tuple[int | None, bool],
    policy: HeaderPolicy,
    size: int,
) -> RequestHead:
    """Return the head, its lines sorted by what their names mean: once through for each meaning."""

    def values(*meanings: Meaning) -> list[bytes]:
        return [value for name, value, _ in lines if policy.meaning(name) in meanings]

    def pairs(*meanings: Meaning) -> tuple[tuple[bytes, bytes], ...]:
        return tuple((name.lower(), value) for name, value, _ in lines if policy.meaning(name) in meanings)

    kept: list[bytes] = []
    withheld = []
    for name, _, text in lines:
        if policy.meaning(name) in (Meaning.KEPT, Meaning.READ):
            kept.append(b"\n" + text)
        elif policy.meaning(name) in (Meaning.AUTHORIZATION, Meaning.WITHHELD):
            withheld.append((len(kept), b"\n" + text))
    options = [option.strip(b" \t").lower() for value in values(Meaning.CONNECTION) for option in value.split(b",")]
    ids = values(Meaning.REQUEST_ID)
    sane = len(ids) == 1 and re.fullmatch(rb"[A-Za-z0-9._~+/=:@-]{1,128}", ids[0])
    return RequestHead(
        line=line[0][:-2],
        method=line[1].decode("ascii"),
        target=line[2],
        http_11=line[3] == b"1",
        hosts=tuple(values(Meaning.HOST)),
        authorization=tuple(values(Meaning.AUTHORIZATION, Meaning.AUTHORIZATION_TAKEN)),
        kept=kept,
        withheld=tuple(withheld),
        forwarding=pairs(Meaning.FORWARDING),
        read=pairs(Meaning.READ, Meaning.TAKEN, Meaning.WITHHELD),
        options=frozenset(options) - {b""},
        content_length=framed[0],
        chunked=framed[1],
        request_id=ids[0] if sane else None,
        weight=1 + size // SMALL_HEAD,
    )


def verdict(reader: HeadReader, block: bytes) -> RequestHead | Reason:
    """Return the reader's reading, or its reason."""
    try:
        return reader.read(block)
    except MalformedError as error:
        return error.reason


# --- heads ---

TRUSTING = header_policy(("x-user-id", "x-scope"), b"gw", ["10.0.0.0/8"], ["x-api-key", "partner_key"], fields="both")
PASSING = header_policy(("x-user-id",), b"gw", (), ["x-api-key"], stripped=["x-team", "origin"], plain_only=False)
POLICIES = {"plain": PLAIN, "trusting": TRUSTING, "passing": PASSING}

KNOWN = (
    *(b"Host", b"Content-Length", b"Transfer-Encoding", b"Connection", b"Authorization", b"X-Request-Id", b"DPoP"),
    *(b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host", b"X-Forwarded-Port", b"Forwarded", b"Via"),
    *(b"Expect", b"Upgrade", b"Origin", b"Access-Control-Request-Method", b"Max-Forwards", b"Sec-WebSocket-Protocol"),
    *(b"X-Api-Key", b"Partner_Key", b"X-User-Id", b"X-Scope", b"X-Team", b"TE", b"Trailer", b"Keep-Alive", b"Cookie"),
    *(b"Proxy-Authorization", b"User-Agent", b"Accept", b"X-Real-IP", b"Remote-User", b"SCRIPT_NAME"),
)


def spellings(name: bytes) -> list[bytes]:
    """Return a name in several cases, with other characters for its hyphens, with something before and behind it."""
    longer = [name + b"-" + b"a" * size for size in (1, 40, 64, 100)]
    changed = [name.replace(b"-", b"_"), name.replace(b"-", b".", 1), b"HTTP_" + name.replace(b"-", b"_")]
    return [name, name.lower(), name.upper(), name.swapcase(), *changed, b"Grpc-Metadata-" + name, *longer]


_SPELLED = st.sampled_from(KNOWN).flatmap(lambda name: st.sampled_from(spellings(name)))
_TOKENS = st.text("!#$%&'*+-.^_`|~09AZaz", min_size=1, max_size=8).map(str.encode)
_LONG = st.integers(60, 70).map(lambda size: b"X" * size)
_NAMES = _SPELLED | _SPELLED | _SPELLED | _TOKENS | _LONG
_BLANKS = st.sampled_from([b"", b" ", b" ", b"\t", b"  \t "])
_NOT_IN_LINES = bytes([*range(9), *range(10, 32), 127])
_VALUES = st.sampled_from(
    [
        *(b"", b"a", b"a, b", b"close", b"keep-alive, X-Team", b"0", b"3", b"03", b"+3", b"3, 3", b"0x3", b"1_0"),
        *(b"9" * 18, b"9" * 19, b"chunked", b"CHUNKED", b"gzip, chunked", b"chunked, ", b"identity", b"h", b"a\tb"),
        *(b"Bearer a.b.c", b"\xff\x80", b"caf\xc3\xa9", b"id-1", b"x" * 129, b"websocket", b"100-continue", b"a: b"),
    ]
) | st.binary(max_size=6).map(lambda value: value.translate(None, _NOT_IN_LINES))
_LINES = st.builds(
    lambda name, before, value, behind: name + b":" + before + value + behind, _NAMES, _BLANKS, _VALUES, _BLANKS
)
_BAD_LINES = st.sampled_from(
    [
        *(b"Host", b"Cookie", b"X", b"Content-Length", b" folded", b"\tfolded: a", b"Host : h", b"X\t: a", b": a"),
        *(b"X: a\x00b", b"X: a\rb", b"X: a\nb", b"X: a\nHost: b", b"X: a\x7f", b"X: \x1b", b"X\x00: a", b"X\r: a"),
        *(b"X: a\r", b"\nX: a", b"X: a\n", b"\x0b: a", b"X: \x0c", b"X:\x85a", b"\x85X: a", b"X\xa0: a", b"\r", b"\n"),
        *(b"a b: c", b"GET / HTTP/1.1", b"", b": 1", b"X Y: 1", b" Host: 1", b"\xe9: 1", b"X(: 1", b"X/Y: 1"),
    ]
)
_REQUEST_LINES = st.sampled_from(
    [b"GET / HTTP/1.1", b"GET / HTTP/1.1", b"POST /a?b HTTP/1.1", b"M-SEARCH * HTTP/1.0", b"A_1 http://h/ HTTP/1.1"]
) | st.sampled_from(
    [
        *(b"GET / HTTP/2.0", b"GET / HTTP/1.2", b"GET / HTTP/3", b"GET / HTTP/0.9", b"GET / HTTP/1", b"GET / HTTP/11"),
        *(b"get / HTTP/1.1", b"GET  / HTTP/1.1", b"GET /  HTTP/1.1", b"GET / HTTP/1.1 ", b" GET / HTTP/1.1", b"GET /"),
        *(b"GET\t/ HTTP/1.1", b"GET /\x00 HTTP/1.1", b"GET /\xe9 HTTP/1.1", b"GET / http/1.1", b"GET / HTTP/1.1\r"),
        *(b"GET / HTTP/1.1\n", b"GET /\nX HTTP/1.1", b"GET / HTTP/2.0\nX: a", b"A" * 32 + b" / HTTP/1.1", b""),
        *(b"GET /a b HTTP/1.1", b"GET / HTTP/1.\xb2", b"G\xc9T / HTTP/1.1", b"GET / HTTP/12.0", b"GET /\x7f HTTP/1.1"),
        b"A" * 33 + b" / HTTP/1.1",
    ]
)
_GOOD_HEADS = st.lists(_LINES, max_size=8).map(lambda lines: b"\r\n".join([b"GET / HTTP/1.1", *lines, b"", b""]))
_HEADS = st.builds(
    lambda line, lines: b"\r\n".join([line, *lines, b"", b""]),
    _REQUEST_LINES,
    st.lists(_LINES | _LINES | _LINES | _BAD_LINES, max_size=8),
)
_INSERTED = st.sampled_from(
    [b"\r", b"\n", b"\r\n", b"\r\n ", b"\r\n\t", b"\x00", b" ", b"\t", b":", b"\x7f", b"\xff", b"\x85", b"\x0b", b","]
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A head into which bytes were put, out of which bytes were taken, or of which a part stands there twice."""
    block = draw(_GOOD_HEADS)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(block)))
        match draw(st.sampled_from(["insert", "insert", "take", "double"])):
            case "insert":
                block = block[:at] + draw(_INSERTED) + block[at:]
            case "take":
                block = block[:at] + block[at + draw(st.integers(1, 3)) :]
            case _:
                block = block[: at + draw(st.integers(1, 30))] + block[at:]
    return block


def as_cut(block: bytes) -> bytes:
    """Return what is taken for a head: all up to and with the first empty line."""
    return block.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"


MANY = b"a:\r\n" * 1000


@pytest.mark.untraced
@pytest.mark.parametrize("name", POLICIES)
@settings(max_examples=1000)
@example(b"GET / HTTP/1.1\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\nHOST:\r\n\r\n")
@example(b"GET / HTTP/1.1\r\n" + MANY + b"\r\n")
@example(b"GET / HTTP/1.1\r\n" + MANY + b"a:\r\n\r\n")
@example(b"GET / HTTP/1.1\r\n" + MANY + b"a\r\n\r\n")
@example(b"GET / HTTP/1.1\r\n" + MANY + b"a:\x00\r\n\r\n")
@example(b"GET / HTTP/1.1\r\n" + MANY[4:] + b"a\r\n\r\n")
@example(b"GET / HTTP/2\r\n" + MANY + b"a:\r\n\r\n")
@example(b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: 1\r\n" % number for number in range(1000)) + b"\r\n")
@example(b"GET / HTTP/1.1\r\nX: a\r\r\n\n\r\n\r\n")
@given(block=(_HEADS | _GOOD_HEADS | mutated() | st.binary(max_size=60)).map(as_cut))
@pytest.mark.rule("R200", "R201", "R202", "R203", "R204", "R205", "R206", "R207", "R217", "R218", "R262", "R273")
def test_reader_and_plain_parser_agree(name: str, block: bytes) -> None:
    """Whether it has read many heads before, or none."""
    policy = POLICIES[name]
    expected = plainly(block, policy)
    assert verdict(reader_of(policy), block) == expected
    assert verdict(HeadReader(policy.meaning, ()), block) == expected


@pytest.mark.untraced
@pytest.mark.rule("R200", "R201", "R202", "R268", "R271")
def test_every_byte_at_every_place_of_a_head() -> None:
    """In the request line, before, in and behind a name, around a value and in it, at the ends of lines."""
    block = b"GET /a HTTP/1.1\r\nHost: h\r\nX-A: b\r\nTE:c\r\n\r\n"
    accepted = 0
    for byte in (bytes([code]) for code in range(256)):
        for at in range(len(block) - 3):
            for odd in (block[:at] + byte + block[at:], block[:at] + byte + block[at + 1 :]):
                cut = as_cut(odd)
                found = verdict(reader_of(PLAIN), cut)
                assert found == plainly(cut, PLAIN), cut
                accepted += isinstance(found, RequestHead)
    assert 2000 < accepted < 15_000


@settings(max_examples=300)
@given(_GOOD_HEADS.map(as_cut))
@pytest.mark.rule("R250", "R251", "R252", "R256", "R259", "R260", "R340", "R341", "R342", "R344")
def test_no_line_that_means_something_is_kept(block: bytes) -> None:
    """By the other opinion on names, which is written from docs/transparency.md."""
    head = verdict(reader_of(PLAIN), block)
    if isinstance(head, Reason):
        return
    for line in head.kept:
        name = line.partition(b":")[0].removeprefix(b"\n")
        assert not is_removed(name)
        assert not is_removed(name.lower().removeprefix(b"grpc-metadata-"))
    for _, line in head.withheld:
        assert line.partition(b":")[0].lower() in (b"\nauthorization", b"\ndpop")


# --- names that the configuration gives a meaning, and that have one already ---

#: Names that the reader, or a part, looks at. Settings refuse many of them; the reader does not rest on that.
MEANING = (
    *("host", "content-length", "transfer-encoding", "connection", "x-request-id", "authorization", "dpop", "origin"),
    *("via", "max-forwards", "expect", "upgrade", "x-forwarded-for", "forwarded", "sec-websocket-protocol"),
    *("access-control-request-method", "x-api-key", "x-client-tls", "x-user-id", "cookie", "te"),
)
READS = ["x-api-key", "x-client-tls"]
_SOME = st.lists(st.sampled_from([*MEANING, "x_api_key", "x.team"]), max_size=3)


@settings(max_examples=300)
@given(_SOME, _SOME, st.booleans(), st.sampled_from(["x-forwarded", "forwarded", "both"]), st.data())
@pytest.mark.rule("R227", "R340", "R341", "R342", "R343", "R402")
def test_no_configuration_lets_a_name_pass_that_is_the_gateways(
    identity: list[str], stripped: list[str], plain_only: bool, fields: ForwardedFields, data: st.DataObject
) -> None:
    """Neither an identity header, nor a stripped one, nor another spelling of one that the gateway reads."""
    policy = header_policy(
        identity, b"gw", ["10.0.0.0/8"], READS, fields=fields, stripped=stripped, plain_only=plain_only
    )
    names = st.sampled_from([name.encode() for name in (*MEANING, *identity, *stripped)])
    chosen = data.draw(st.lists(names.flatmap(lambda name: st.sampled_from(spellings(name))), max_size=6))
    block = b"\r\n".join([b"GET / HTTP/1.1", *(name + b": 1" for name in chosen), b"", b""])
    head = verdict(HeadReader(policy.meaning, policy.usual), block)
    if isinstance(head, Reason):
        assert {b"content-length", b"transfer-encoding"} & {name.lower() for name in chosen}
        return
    mine = {folded(name.encode()) for name in (*identity, *stripped)}
    mine |= {b"host", b"content-length", b"transfer-encoding", b"connection", b"x-request-id", b"expect", b"upgrade"}
    mine |= {b"te", b"forwarded", b"x-forwarded-for"}
    for line in (*head.kept, *(line for _, line in head.withheld)):
        name = line.partition(b":")[0].removeprefix(b"\n")
        spelled = folded(name.lower().removeprefix(b"grpc-metadata-"))
        assert spelled not in mine
        assert spelled not in (b"via", b"max-forwards", b"authorization", b"dpop") or name.lower() == spelled
    assert not {line.partition(b":")[0].lower() for line in head.kept} & {b"\nauthorization", b"\ndpop"}


@pytest.mark.parametrize("plain_only", [True, False])
@pytest.mark.parametrize("where", ["identity", "stripped", "both", "neither"])
@pytest.mark.parametrize("name", MEANING)
@pytest.mark.rule("R227", "R340", "R402")
def test_what_the_gateway_reads_it_reads_whatever_else_the_name_is(name: str, where: str, plain_only: bool) -> None:
    """A name that the configuration takes as well stays here; what it says to the gateway stays said."""
    identity, stripped = [name] * (where in ("identity", "both")), [name] * (where in ("stripped", "both"))
    policy = header_policy(identity, b"gw", ["10.0.0.0/8"], READS, stripped=stripped, plain_only=plain_only)
    value = {"content-length": b"3", "transfer-encoding": b"chunked"}.get(name, b"one")
    head = HeadReader(policy.meaning, policy.usual).read(b"GET / HTTP/1.1\r\n%b: %b\r\n\r\n" % (name.encode(), value))
    said = {
        "host": head.hosts == (value,),
        "content-length": head.content_length == 3,
        "transfer-encoding": head.chunked,
        "connection": head.options == {value},
        "x-request-id": head.request_id == value,
        "authorization": head.authorization == (value,),
        "x-forwarded-for": head.forwarding == ((b"x-forwarded-for", value),),
    }
    unread = ("x-user-id", "cookie", "te", "forwarded")  # the last one: these proxies write the other ones
    assert said.get(name, head.values(name.encode()) == ([] if name in unread else [value]))
    passes = ("x-api-key", "origin", "via", "max-forwards", "access-control-request-method", "sec-websocket-protocol")
    assert bool(head.kept) is (name in (*passes, "cookie") and where == "neither")
    assert bool(head.withheld) is (name in ("authorization", "dpop") and where == "neither")
