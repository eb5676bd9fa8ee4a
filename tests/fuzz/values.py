"""Bytes, JSON values and JSON texts gone wrong, by chance from one ``random.Random``."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from tests.support.tokens.minting import ISSUER

#: Texts that have broken readers before.
TEXTS = [
    *("", " ", "a", "api", "api2", "ap", "API", "alice", "é", "漢字", "😀", "\u0000", "\n", "\r\nX: y", "\x7f", "\x85"),
    *("\ud800", "\udfff\ud800", "\u2028", "\ufeff", "../../etc/passwd", "' OR 1=1 --", "http://169.254.169.254/"),
    *("none", "None", "RS256", "ES256", "HS256", "PS256", "EdDSA", "Ed25519", "at+jwt", "application/AT+JWT", "JWT"),
    *(
        "logout+jwt",
        "dpop+jwt",
        "JWE",
        "a",
        "e",
        "o",
        ISSUER,
        ISSUER.rstrip("/"),
        ISSUER.upper(),
        "%s%n",
        "1",
        "1800000100",
        "x" * 1500,
    ),
]


def mutated_bytes(data: bytes, random: Random) -> bytes:
    """Flip, put in, take out, repeat and cut off a few bytes."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 5))):
        if not changed:
            break
        at = random.randrange(len(changed))
        match random.randrange(7):
            case 0:
                changed[at] ^= 1 << random.randrange(8)
            case 1:
                changed[at] = random.randrange(256)
            case 2:
                changed[at:at] = random.choice((b".", b"=", b"\0", b"\xff", b"A", b"\n", b" ", b",", b'"', b"{", b"\\"))
            case 3:
                del changed[at : at + random.choice((1, 1, 2, 30))]
            case 4:
                changed[at:at] = changed[at : at + random.randrange(1, 30)]
            case 5:
                del changed[at:]
            case _:
                del changed[:at]
    return bytes(changed)


def odd_value(random: Random, now: float, depth: int = 0) -> Any:
    """Return a JSON value that a claim or header member should not, or seldom, have."""
    match random.randrange(8 if depth < 3 else 6):
        case 0:
            return random.choice(
                [None, True, True, False, {}, [], 0, -1, 1.5, -0.0, 2**53 + 1, 10**30, -(10**300), 1e300]
            )
        case 1:
            return now + random.choice(
                [-86500, -3600, -31, -30, -29.5, -1, 0, 0.5, 29, 30, 31, 3600, 86399, 86401, 1e6]
            )
        case 2:
            return int(now) + random.choice([-31, -30, -29, 0, 1, 29, 30, 31, 86400, 86401])
        case 3 | 4:
            return random.choice(TEXTS)
        case 5:
            return random.choice(TEXTS) + random.choice(TEXTS)
        case 6:
            return [odd_value(random, now, depth + 1) for _ in range(random.randrange(4))]
        case _:
            return {random.choice(TEXTS): odd_value(random, now, depth + 1) for _ in range(random.randrange(3))}


def mutate_members(members: dict[str, Any], names: list[str], random: Random, now: float) -> None:
    """Change, add and remove one to three members."""
    for _ in range(random.choice((1, 1, 2, 3))):
        name = random.choice([*members, *names])
        if random.random() < 0.2:
            members.pop(name, None)
        elif random.random() < 0.05:
            members[name] = _deep(random.choice((10, 62, 63, 64, 65, 600)))
        else:
            members[name] = odd_value(random, now)


def coded(members: dict[str, Any], random: Random) -> bytes:
    """Write an object as JSON, most often as issuers do."""
    text = json.dumps(members, ensure_ascii=random.random() < 0.5, indent=random.choice((None, None, None, 1)))
    coding = random.choice(("utf-8",) * 12 + ("utf-16", "utf-32-le", "utf-8-sig", "latin-1"))
    try:
        return text.encode(coding, "surrogatepass" if coding != "latin-1" else "replace")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _deep(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value
