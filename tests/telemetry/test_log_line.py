"""What a line of the access log says, byte for byte, in both forms."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime
from typing import Any, Literal

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.identity import Identity
from gateway.telemetry import log_line
from gateway.telemetry.log_line import LogLine
from gateway.telemetry.record import Record
from tests.support.kept_memory import kept_memory

Form = Literal["json", "text"]

HOSTILE = "a\r\n\x00\x1b[2J\x7f\x85\x9b\u2028\u2029\ud800\"\\' =end"
WALL = 1_800_000_000.0


def make_identity(subject: str | None, **more: Any) -> Identity:
    return Identity(
        **{
            "issuer_name": "main",
            "issuer": "https://idp.test/",
            "subject": subject,
            "scopes": (),
            "claims": {},
            "lines": b"",
            "expires_at": 0,
            "not_before": 0,
            "token_id": None,
            **more,
        }
    )


def record(**values: Any) -> Record:
    return Record(**{"started": 0.0, "client": "192.0.2.1", "method": "GET", "path": "/a", "status": 200, **values})


def line_of(form: Form, **values: Any) -> str:
    return LogLine(form).render(record(**values), 0.0123456, WALL)


# --- what it says ---


@pytest.mark.rule("R389")
def test_json_line_tells_what_is_known_and_nothing_else() -> None:
    """Request id, status, times, cache hit, issuer; fields without a value are left out."""
    plain = json.loads(line_of("json", request_id="r1", route="/a"))
    assert plain == {
        "time": "2027-01-15T08:00:00.000+00:00",
        "request_id": "r1",
        "client": "192.0.2.1",
        "method": "GET",
        "path": "/a",
        "route": "/a",
        "status": 200,
        "outcome": "forwarded",
        "duration_ms": 12.346,
        "bytes_in": 0,
        "bytes_out": 0,
    }
    full = json.loads(
        line_of(
            "json",
            reason="expired",
            detail="d",
            observed="o",
            identity=make_identity("alice"),
            cache_hit=False,
            upstream="orders",
            upstream_seconds=0.25,
            bytes_in=3,
            bytes_out=5,
        )
    )
    extra = {name: full[name] for name in full if name not in plain or full[name] != plain[name]}
    assert extra.pop("subject_hash")
    assert extra == {
        "request_id": "",
        "route": "",
        "reason": "expired",
        "detail": "d",
        "observed": "o",
        "credential": "jwt",
        "issuer": "main",
        "cache_hit": False,
        "upstream": "orders",
        "upstream_ms": 250.0,
        "bytes_in": 3,
        "bytes_out": 5,
    }


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.rule("R196", "R389")
def test_subject_is_only_a_hash_and_the_same_for_the_same_subject(form: Form) -> None:
    """Who it was cannot be read, but two lines of one caller can be recognised."""
    lines = [line_of(form, identity=make_identity(subject)) for subject in ("alice@example", "alice@example", "bob")]
    assert lines[0] == lines[1] != lines[2]
    assert "alice" not in lines[0]
    assert "subject_hash" not in line_of(form, identity=make_identity(None))


@pytest.mark.parametrize(
    ("method", "shown"),
    [
        ("GET", "GET"),
        ("M-SEARCH", "M-SEARCH"),
        ("", ""),
        ("get", "(other)"),
        ("eyJhb", "(other)"),
        ("A" * 17, "(other)"),
    ],
)
@pytest.mark.rule("R196", "R197")
def test_only_what_looks_like_a_method_is_shown_as_one(method: str, shown: str) -> None:
    """A client may put a secret in its place, and any token is a method to HTTP."""
    assert json.loads(line_of("json", method=method))["method"] == shown


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("name", ["path", "detail", "request_id", "client", "route"])
@pytest.mark.rule("R197")
def test_hostile_text_stays_one_line_of_printable_ascii(form: Form, name: str) -> None:
    """Line ends of any kind, terminal sequences and quotes are escaped; a lone surrogate is no fault."""
    line = line_of(form, **{name: HOSTILE})
    assert line.endswith("\n")
    assert line[:-1].isascii()
    assert line[:-1].isprintable()
    assert len(line.splitlines()) == 1
    if form == "json":
        assert json.loads(line)[name] == HOSTILE
    else:
        value, _ = json.JSONDecoder().raw_decode(line[line.index(f"{name}=") + len(name) + 1 :])
        assert value == HOSTILE


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("/plain/path", "/plain/path"),
        ("", '""'),
        ("a b", '"a b"'),
        ("a=b", '"a=b"'),
        ('say "hi"', '"say \\"hi\\""'),
        ("back\\slash", '"back\\\\slash"'),
        ("café", '"caf\\u00e9"'),
    ],
)
@pytest.mark.rule("R197")
def test_text_line_quotes_what_could_be_taken_for_another_field(value: str, written: str) -> None:
    """Name=value pairs can be separated whatever a value holds."""
    assert f" path={written} route=" in line_of("text", path=value)


@pytest.mark.rule("R389")
def test_text_line_writes_numbers_and_flags_as_they_are() -> None:
    line = line_of("text", cache_hit=True, upstream_seconds=0.5)
    assert " status=200 " in line
    assert " cache_hit=true upstream_ms=500.0 bytes_in=0 " in line


# --- the same as the plain way of writing it ---


def plain_line(form: Form, one: Record, seconds: float, wall: float) -> str:
    """The line, rendered anew field by field."""
    fields = _fields(one, seconds, wall)
    if form == "json":
        return _json(fields) + "\n"
    return " ".join(f"{name}={_text(value)}" for name, value in fields.items()) + "\n"


def _fields(one: Record, seconds: float, wall: float) -> dict[str, Any]:
    is_method = re.fullmatch(r"[A-Z][A-Z-]{0,15}|", one.method)
    who = one.identity
    fields = {
        "time": datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds"),
        "request_id": one.request_id,
        "client": one.client,
        "method": one.method if is_method else "(other)",
        "path": one.path,
        "route": one.route,
        "status": one.status,
        "outcome": one.outcome,
        "duration_ms": round(seconds * 1000, 3),
        "reason": one.reason or one.tunnel_end or None,
        "detail": one.detail or None,
        "observed": one.observed or None,
        "credential": who.credential if who else None,
        "issuer": who.issuer_name or None if who else None,
        "tenant": who.tenant if who else None,
        "subject_hash": None,
        "cache_hit": one.cache_hit,
        "upstream": one.upstream or None,
        "upstream_ms": None if one.upstream_seconds is None else round(one.upstream_seconds * 1000, 3),
        "bytes_in": one.bytes_in,
        "bytes_out": one.bytes_out,
    }
    if who is not None and who.subject is not None:
        fields["subject_hash"] = hashlib.sha256(who.subject.encode()).hexdigest()[:16]
    return {name: value for name, value in fields.items() if value is not None}


def _json(value: object) -> str:
    try:
        text = orjson.dumps(value).decode()
        if text.isascii() and "\x7f" not in text:
            return text
    except TypeError:  # a lone surrogate
        pass
    return json.dumps(value, separators=(",", ":")).replace("\x7f", "\\u007f")


def _text(value: object) -> str:
    plain = isinstance(value, str) and value.isascii() and value.isprintable() and not set(value) & set(' "=\\')
    return str(value) if plain and value else _json(value)


any_text = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=40),
    st.text(' "\\=\n\x7f/aé', max_size=8),
    st.sampled_from(["", "/", "/orders/1", "a", HOSTILE, "x" * 300]),
)
microseconds = st.integers(0, 10**10).map(lambda count: count / 1e6)
encodable = st.one_of(st.text(max_size=20), st.sampled_from(["alice", "s" * 300]))
callers = st.builds(
    lambda subject, **more: make_identity(subject, **more),
    st.none() | encodable,
    issuer_name=any_text,
    tenant=st.none() | any_text,
    credential=st.sampled_from(["jwt", "api_key"]),
)
records = st.builds(
    Record,
    started=st.just(0.0),
    client=any_text,
    request_id=any_text,
    method=st.sampled_from(["GET", "POST", "get", "M-SEARCH", "", "A" * 17]) | any_text,
    path=any_text,
    route=any_text,
    status=st.integers(100, 999),
    outcome=st.sampled_from(["forwarded", "answered", "refused", "failed", "client_gone"]),
    reason=any_text,
    detail=any_text,
    observed=any_text,
    identity=st.none() | callers,
    cache_hit=st.none() | st.booleans(),
    upstream=any_text,
    upstream_seconds=st.none() | microseconds,
    bytes_in=st.integers(0, 1 << 50),
    bytes_out=st.integers(0, 1 << 50),
    tunnel_end=any_text,
)


@given(st.lists(st.tuples(records, microseconds, st.integers(0, 4 * 10**12)), min_size=1, max_size=5))
@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.rule("R197", "R389")
def test_line_is_the_same_as_the_one_that_is_rendered_anew(
    form: Form, finished: list[tuple[Record, float, int]]
) -> None:
    """Byte for byte, whatever a client, an issuer or a configuration put there; also when its parts are kept."""
    line = LogLine(form)
    for one, seconds, millisecond in (*finished, *finished):
        wall = millisecond / 1000
        assert line.render(one, seconds, wall) == plain_line(form, one, seconds, wall)


@given(st.floats(0, 1e6))
def test_duration_is_rounded_to_the_microsecond(seconds: float) -> None:
    shown = re.search(r" duration_ms=(\d+\.\d{1,3}) ", LogLine("text").render(record(), seconds, WALL))
    assert shown is not None
    assert float(shown[1]) == pytest.approx(seconds * 1000, abs=0.00051)


# --- what is kept ---


def chosen(part: str, text: str) -> Record:
    """Return a request one part of which a client has chosen."""
    return record(identity=make_identity(text)) if part == "subject" else record(**{part: text})


@pytest.mark.parametrize("part", ["client", "method", "subject"])
def test_parts_that_are_kept_have_a_bound(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """CWE-770: clients choose addresses behind a trusted proxy, methods and subjects."""
    monkeypatch.setattr(log_line, "MAX_KEPT", 10)
    line = LogLine("json")
    with kept_memory() as kept:
        for number in range(1000):
            one = chosen(part, f"A{number}")
            assert line.render(one, 0.0, WALL) == plain_line("json", one, 0.0, WALL)
    assert kept.size < 20_000


@pytest.mark.parametrize("part", ["client", "method", "subject"])
def test_parts_that_are_kept_are_not_long(part: str) -> None:
    line = LogLine("json")
    with kept_memory() as kept:
        for number in range(300):
            one = chosen(part, "l" * log_line.MAX_KEPT_CHARS + str(number))
            assert line.render(one, 0.0, WALL) == plain_line("json", one, 0.0, WALL)
    assert kept.size < 20_000


@pytest.mark.parametrize("part", ["client", "method", "subject"])
def test_parts_are_kept(part: str) -> None:
    line = LogLine("json")
    with kept_memory() as kept:
        for number in range(300):
            line.render(chosen(part, f"A{number}"), 0.0, WALL)
    assert kept.size > 300 * 50
