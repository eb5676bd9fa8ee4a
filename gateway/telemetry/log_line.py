"""One finished request as one line of the access log, in JSON or as ``name=value`` pairs.

Renders lines; ``access_log.py`` collects lines and has them written. The log is on by default, so each
request pays for what this file does: what comes again and again (routes, callers, addresses) is rendered once and kept,
within bounds. The danger is text that a client chose: what is not plain is escaped (CWE-117).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal, TypeVar

import orjson

from gateway.telemetry.record import Record

#: Parts of lines that are kept, of each kind, and the longest text that they are kept for: clients choose some of them.
MAX_KEPT, MAX_KEPT_CHARS = 4096, 256

_Key = TypeVar("_Key")
_Part = TypeVar("_Part")

#: Method, route, status, outcome, reason, cache hit, upstream, and whether the upstream was waited for.
_Course = tuple[str, str, int, str, str, bool | None, str, bool]

#: Credential, issuer, tenant, subject.
_Caller = tuple[str, str, str | None, str | None]

# What methods look like. Anything else that a client put in their place may be a secret gone astray.
_is_method = re.compile(r"[A-Z][A-Z-]{0,15}|").fullmatch

# The decimals of a time in milliseconds, by its microseconds.
_DECIMALS = tuple(f".{rest:03d}".rstrip("0") if rest else ".0" for rest in range(1000))


class LogLine:
    """Renders finished requests in one form.

    Args:
        form: ``json`` or ``text``.
    """

    def __init__(self, form: Literal["json", "text"]) -> None:
        self._form = _JSON if form == "json" else _TEXT
        self._are_plain = self._form.are_plain
        self._millisecond, self._second = -1, -1
        self._date = self._start = ""
        self._clients = _Kept(self._client, _is_short)
        self._courses = _Kept(self._course, lambda course: _is_short(course[0]))
        self._callers = _Kept(self._caller, lambda caller: _is_short(caller[3] or ""))
        self._bytes_in, self._bytes_out = self._form.name("bytes_in"), self._form.name("bytes_out")
        self._end = self._form.end

    def render(self, record: Record, seconds: float, wall: float) -> str:
        """Return the line of a finished request, with the line end.

        Args:
            record: the request.
            seconds: what it took.
            wall: when it ended, in epoch seconds.
        """
        # No calls where they can be spared: this is the dearest part of what the log costs.
        if (millisecond := int(wall * 1000 + 0.0005)) != self._millisecond:
            self._set_time(millisecond)
        request_id, path, identity, waited = record.request_id, record.path, record.identity, record.upstream_seconds
        if self._are_plain(f"{request_id}\n{path}") is None:
            request_id, path = self._form.between_marks(request_id), self._form.between_marks(path)
        before_path, before_duration, behind_duration, before_waited = self._courses[
            record.method,
            record.route,
            record.status,
            record.outcome,
            record.reason or record.tunnel_end,
            record.cache_hit,
            record.upstream,
            waited is None,
        ]
        if record.detail or record.observed:
            behind_duration += self._explained(record)
        if identity is not None:
            behind_duration += self._callers[
                identity.credential, identity.issuer_name, identity.tenant, identity.subject
            ]
        microseconds = int(seconds * 1e6 + 0.5)
        duration = f"{microseconds // 1000}{_DECIMALS[microseconds % 1000]}"
        if waited is not None:
            if waited != seconds:  # they are the same where nothing else took time
                microseconds = int(waited * 1e6 + 0.5)
                before_waited += f"{microseconds // 1000}{_DECIMALS[microseconds % 1000]}"
            else:
                before_waited += duration
        return (
            f"{self._start}{request_id}{self._clients[record.client]}{before_path}{path}{before_duration}{duration}"
            f"{behind_duration}{before_waited}"
            f"{self._bytes_in}{record.bytes_in}{self._bytes_out}{record.bytes_out}{self._end}"
        )

    # --- parts that are kept ---

    def _set_time(self, millisecond: int) -> None:
        """Render what lines begin with that end in this millisecond of the epoch, up to the request id."""
        second, rest = divmod(millisecond, 1000)
        if second != self._second:
            self._second, self._date = second, datetime.fromtimestamp(second, UTC).isoformat()[:19]
        form, self._millisecond = self._form, millisecond
        self._start = f"{form.first('time')}{form.mark}{self._date}.{rest:03d}+00:00{form.mark}"
        self._start += form.name("request_id") + form.mark

    def _client(self, client: str) -> str:
        return f"{self._form.mark}{self._form.pair('client', client)}"

    def _course(self, course: _Course) -> tuple[str, str, str, str]:
        """Return what stands before the path, between it and the duration, behind the duration, and before the wait."""
        form = self._form
        method, route, status, outcome, reason, cache_hit, upstream, nowhere = course
        way = "" if cache_hit is None else form.name("cache_hit") + ("true" if cache_hit else "false")
        if upstream:
            way += form.pair("upstream", upstream)
        return (
            form.pair("method", method if _is_method(method) else "(other)") + form.name("path") + form.mark,
            f"{form.mark}{form.pair('route', route)}{form.name('status')}{status}{form.pair('outcome', outcome)}"
            + form.name("duration_ms"),
            form.pair("reason", reason) if reason else "",
            way if nowhere else way + form.name("upstream_ms"),
        )

    def _caller(self, caller: _Caller) -> str:
        form = self._form
        credential, issuer, tenant, subject = caller
        text = form.pair("credential", credential)
        if issuer:
            text += form.pair("issuer", issuer)
        if tenant is not None:
            text += form.pair("tenant", tenant)
        if subject is not None:
            text += form.pair("subject_hash", hashlib.sha256(subject.encode()).hexdigest()[:16])
        return text

    def _explained(self, record: Record) -> str:
        text = self._form.pair("detail", record.detail) if record.detail else ""
        return text + self._form.pair("observed", record.observed) if record.observed else text


class _Form:
    """What fields look like in a form.

    Attributes:
        mark: what stands around a text that is plain.
        end: of a line.
        are_plain: matches two texts, with a line end between them, if none of them has to be escaped.
    """

    def __init__(self, first: str, name: str, mark: str, end: str, plain: str) -> None:
        self._first, self._name = first, name
        self.mark, self.end = mark, end
        self.are_plain = re.compile(rf"{plain}\n{plain}").fullmatch
        self._is_plain = re.compile(plain).fullmatch

    def first(self, name: str) -> str:
        """Return what stands before the value of a line's first field."""
        return self._first % name

    def name(self, name: str) -> str:
        """Return what stands before the value of any other field."""
        return self._name % name

    def pair(self, name: str, value: str) -> str:
        """Return a field, but the first."""
        return f"{self._name % name}{self.mark}{self.between_marks(value)}{self.mark}"

    def between_marks(self, value: str) -> str:
        """Return a text as it stands between two marks."""
        if self._is_plain(value):
            return value
        text = _json(value)
        return text[1:-1] if self.mark else text


_JSON = _Form('{"%s":', ',"%s":', '"', "}\n", r"[ !#-\[\]-~]*")
# A text that could be taken for another field is written as in JSON.
_TEXT = _Form("%s=", " %s=", "", "\n", r"[!#-<>-\[\]-~]+")


class _Kept(dict[_Key, _Part]):
    """Parts of lines by what they show; when there are too many, all are forgotten."""

    def __init__(self, render: Callable[[_Key], _Part], is_kept: Callable[[_Key], bool]) -> None:
        self._render, self._is_kept = render, is_kept

    def __missing__(self, key: _Key) -> _Part:
        part = self._render(key)
        if self._is_kept(key):
            if len(self) >= MAX_KEPT:
                self.clear()
            self[key] = part
        return part


def _is_short(text: str) -> bool:
    return len(text) <= MAX_KEPT_CHARS


def _json(value: str) -> str:
    """Write JSON in printable ASCII: what terminals and log readers act on is escaped, whatever sent it (CWE-117)."""
    try:
        text = orjson.dumps(value).decode()
        if text.isascii() and "\x7f" not in text:
            return text
    except TypeError:  # a lone surrogate
        pass
    return json.dumps(value).replace("\x7f", "\\u007f")
