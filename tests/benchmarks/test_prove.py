"""benchmarks/prove.py: a gateway that does less work than its peers is not measured."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import unquote_to_bytes

import jwt
import pytest

from benchmarks.drive import Target
from benchmarks.load import messages
from benchmarks.peers.base import Setup, Work, fill
from benchmarks.prove import CLIENT, FIELDS, ProofError, prove, prove_forwarding, prove_log, prove_mixed
from benchmarks.tokens import AUDIENCE, ISSUER, Material, material
from benchmarks.traffic import Sends, build
from tests.benchmarks.service import REFUSED, Answers, service


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return material("ES256", tmp_path_factory.mktemp("cache"))


def gateway(keys: Material, *, forgets: str = "") -> Answers:
    """Return a gateway and the service behind it in one, which forgets one of its duties."""
    options = {
        "verify_aud": forgets != "another audience",
        "verify_iss": forgets != "another issuer",
        "verify_exp": forgets != "expired",
        "verify_signature": forgets != "a bad signature",
    }

    def answer(request: bytes) -> list[bytes]:
        lines = dict(line.lower().split(": ", 1)[:1] + line.split(": ", 1)[1:] for line in _lines(request))
        bearer = lines.get("authorization", "")
        if not bearer:
            return [_answer("") if forgets == "no token" else REFUSED]
        try:
            claims = jwt.decode(
                bearer[7:],
                keys.pem.read_bytes(),
                algorithms=["ES256"],
                audience=AUDIENCE,
                issuer=ISSUER,
                options=options,  # type: ignore[arg-type]
            )
        except jwt.PyJWTError:
            return [REFUSED]
        user = lines["x-user-id"] if forgets == "the identity" else claims["sub"]
        rest = bearer if forgets == "to remove the token" else ""
        return [_answer(f"{user}|{claims['role']}|{claims['scope']}|{rest}")]

    return answer


def _lines(request: bytes) -> list[str]:
    return [line for line in unquote_to_bytes(request).decode().split("\r\n") if ": " in line]


def _pairs(request: bytes) -> list[tuple[str, str]]:
    """Return names, in lower case, and values of a request's header fields."""
    lines = request.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    return [(name.lower(), value) for name, _, value in (line.partition(": ") for line in lines)]


def _answer(body: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def test_the_whole_work_passes(keys: Material) -> None:
    with service(gateway(keys)) as port:
        prove("peer", Target(port), keys)


@pytest.mark.parametrize(
    "duty",
    [
        "no token",
        "another issuer",
        "another audience",
        "expired",
        "a bad signature",
        "the identity",
        "to remove the token",
    ],
)
def test_every_forgotten_duty_is_found(keys: Material, duty: str) -> None:
    said = duty if duty.startswith(("no", "another", "expired", "a bad")) else "identity"
    with service(gateway(keys, forgets=duty)) as port, pytest.raises(ProofError, match=f"peer: .*{said}"):
        prove("peer", Target(port), keys)


def test_peers_that_do_less_do_exactly_that(keys: Material) -> None:
    """Fixed headers, or bytes passed through; what believes tokens still has to refuse a request without one."""
    answers = {
        Work.FIXED: lambda _: [_answer("nobody|none|none|")],
        Work.NOTHING: lambda request: [_answer(f"mallory|||{dict(_pairs(request))['authorization']}")],
        Work.BELIEVES: gateway(keys, forgets="a bad signature"),
    }
    for work, answer in answers.items():
        with service(answer) as port:
            prove("peer", Target(port), keys, work)
            for other in set(Work) - {work}:
                with pytest.raises(ProofError):
                    prove("peer", Target(port), keys, other)
    with service(gateway(keys, forgets="no token")) as port, pytest.raises(ProofError, match="no token"):
        prove("peer", Target(port), keys, Work.BELIEVES)


def test_the_service_learns_the_address_that_a_trusted_proxy_gives_and_no_other(keys: Material) -> None:
    """Of two clients on one connection; a gateway that keeps the first one's, or believes any client, is found."""
    first: list[str] = []

    def keeps(request: bytes) -> list[bytes]:
        first.append(dict(_pairs(request))["x-forwarded-for"])
        return [_answer(first[0])]

    def passes(request: bytes) -> list[bytes]:
        return [_answer(dict(_pairs(request))["x-forwarded-for"])]

    def appends(request: bytes) -> list[bytes]:
        return [_answer(f"{dict(_pairs(request))['x-forwarded-for']}, 127.0.0.1")]

    trusted, plain, token = Setup(trusted=True), Setup(), keys.token()
    right: list[tuple[Answers, Setup]] = [(passes, trusted), (appends, trusted), (appends, plain)]
    for answer, setup in right:
        with service(answer) as port:
            prove_forwarding("peer", Target(port), token, setup)
    wrong: list[tuple[Answers, Setup]] = [(keeps, trusted), (passes, plain), (lambda _: [_answer("")], plain)]
    for answer, setup in wrong:
        with service(answer) as port, pytest.raises(ProofError, match="address"):
            prove_forwarding("peer", Target(port), token, setup)


LINE = dict.fromkeys(FIELDS, "x") | {
    "path": "/echo-forwarded",
    "status": 200,
    "method": "GET",
    "client": "127.0.0.1",
    "subject_hash": "x",
}


def log(file: Path, *lines: dict[str, object]) -> Path:
    """Write an access log, between other output."""
    file.write_text("".join(f"started\n{json.dumps(line)}\n3\n" for line in lines))
    return file


def test_an_access_log_has_a_whole_line_for_each_request(tmp_path: Path) -> None:
    file = tmp_path / "log"
    prove_log("peer", log(file, LINE, LINE), Setup())
    subject = {key: value for key, value in LINE.items() if key != "subject_hash"} | {"subject": "x", "status": "200"}
    prove_log("peer", log(file, subject, subject), Setup())
    proxied = LINE | {"client": CLIENT}
    prove_log("peer", log(file, proxied, proxied), Setup(trusted=True))
    prove_log("peer", log(file), Setup(log=False))
    prove_log("peer", tmp_path / "none", Setup(log=False))


def test_an_access_log_with_gaps_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.prove.LOG_SECONDS", 0.1)
    file = tmp_path / "log"
    anonymous = {key: value for key, value in LINE.items() if key != "subject_hash"}
    timeless = {key: value for key, value in LINE.items() if key != "time"}
    for lines, said in (
        ([], "lacks a line"),
        ([LINE], "lacks a line"),
        ([LINE, anonymous], "lacks subject"),
        ([LINE, timeless], "lacks time"),
        ([LINE, LINE | {"status": 401}], "is wrong"),
        ([LINE, LINE | {"client": CLIENT}], "is wrong"),
    ):
        with pytest.raises(ProofError, match=said):
            prove_log("peer", log(file, *lines), Setup())
    with pytest.raises(ProofError, match="no access log"):
        prove_log("peer", log(file, LINE), Setup(log=False))


def varying(keys: Material, *, forgets: str = "") -> Answers:
    """Return a gateway and the service behind it in one, which answers real traffic and forgets one of its duties."""
    number = iter(range(1000))

    def answer(request: bytes) -> list[bytes]:
        fields, turn = dict(_pairs(request)), next(number)
        claims = jwt.decode(fields["authorization"][7:], options={"verify_signature": False})
        caller = "user-9999999" if forgets == "whose request it is" and turn == 20 else claims["sub"]
        tag = 1 if forgets == "to vary" else turn
        received = 0 if forgets == "the content" else int(fields.get("content-length", 0))
        framing = "Transfer-Encoding: chunked" if forgets == "the length" else "Content-Length: 2"
        content = "2\r\n{}\r\n0\r\n\r\n" if forgets == "the length" else "{}"
        head = f'HTTP/1.1 200 OK\r\n{framing}\r\nETag: "{tag}"\r\nX-Caller: {caller}\r\nX-Received: {received}\r\n\r\n'
        return [(head + content).encode()]

    return answer


def test_real_traffic_gets_the_answers_to_its_own_requests(keys: Material) -> None:
    for body in (0, 100):
        following = messages(build(Sends(mixed=True, body=body), keys, 0.003))
        with service(varying(keys)) as port:
            prove_mixed("peer", Target(port), following, Setup(), Work.ALL)
        with service(varying(keys, forgets="the length")) as port:
            prove_mixed("peer", Target(port), following, Setup(chunked=True), Work.ALL)


@pytest.mark.parametrize("duty", ["whose request it is", "to vary", "the content", "the length"])
def test_a_wrong_answer_to_real_traffic_is_found(keys: Material, duty: str) -> None:
    following = messages(build(Sends(mixed=True, body=100), keys, 0.003))
    with service(varying(keys, forgets=duty)) as port, pytest.raises(ProofError, match="answer"):
        prove_mixed("peer", Target(port), following, Setup(), Work.ALL)


def test_the_templates_have_a_value_for_each_name(tmp_path: Path) -> None:
    """A forgotten one would be a configuration with a hole."""
    with pytest.raises(KeyError):
        fill("haproxy.cfg", tmp_path)
