"""Tokens gone wrong, by chance: every mutation is drawn from one ``random.Random``, so a seed gives it again.

Makes them: good tokens, and what a mistaken or hostile issuer, client or
network could make of them. Whether one may pass is ``oracle.py``'s.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from tests.fuzz.keys import fixed_ed25519, fixed_p256, fixed_rsa
from tests.fuzz.values import coded, mutate_members, mutated_bytes
from tests.support.tokens.minting import SigningKey, b64, good_claims, mint, mint_raw, unb64

#: The keys that the test issuer publishes, by name.
PUBLISHED: Mapping[str, SigningKey] = {
    "a": fixed_rsa("a", "published a"),
    "e": fixed_p256("e", "published e"),
    "o": fixed_ed25519("o", "published o"),
}

#: Keys of no issuer, under published names, and a public key used as a secret.
STRANGERS = (
    fixed_p256("e", "stranger e"),
    fixed_ed25519("o", "stranger o"),
    fixed_ed25519("a", "stranger a"),
    fixed_p256("a", "stranger a"),
    SigningKey.hmac("a", PUBLISHED["a"].public_bytes()),
)

HEADER_NAMES = [
    "alg",
    "kid",
    "typ",
    "crit",
    "b64",
    "jku",
    "jwk",
    "x5u",
    "x5c",
    "cty",
    "enc",
    "zip",
    "nonce",
    "Alg",
    "é",
]
CLAIM_NAMES = [
    *(
        "iss",
        "aud",
        "sub",
        "exp",
        "nbf",
        "iat",
        "exp",
        "nbf",
        "iat",
        "jti",
        "scope",
        "scp",
        "scopes",
        "role",
        "cnf",
        "events",
        "azp",
    ),
    *("act", "realm_access", "Sub", "EXP", "é", "", "__proto__"),
]

#: Stands for a place in a JSON text where raw text is put that no JSON writer makes.
_HOLE = "hole-in-the-text"
RAW_VALUES = [
    *(
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"1e999",
        b"-1e999",
        b"1" + b"0" * 400,
        b"9" * 5000,
        b"1e-400",
        b"-0",
        b"0x10",
    ),
    *(b"01", b"+1", b"1.", b".5", b"'a'", b"undefined", b"True", b"[" * 3000, b'{"a":' * 1000, b'"\\ud800"', b'"\x01"'),
    *(
        b'"\xff\xfe"',
        b'"\xed\xa0\x80"',
        b"[1,]",
        b"{}{}",
        b"/**/1",
        b'"a" "b"',
        b"",
        b'1,"exp":9999999999',
        b'"x","sub":"bob"',
    ),
    *(b'"\\u0000"', b'"\\u00e9"', b"[[[[[[]]]]]]", b"1795600000.5", b"1E3", b'"\xc3\xa9"', b"null ", b"\ttrue"),
]


class TokenMaker:
    """Makes tokens, good and mutated.

    Args:
        now: epoch seconds at which they are judged.
    """

    def __init__(self, now: float) -> None:
        self.now = now
        self._good = [
            mint(key, good_claims(now, sub=f"user-{number}"))
            for number, key in enumerate((PUBLISHED["a"], PUBLISHED["e"], PUBLISHED["o"]) * 4)
        ]
        self._makers: list[tuple[str, Callable[[Random], bytes]]] = [
            ("good", lambda random: random.choice(self._good)),
            ("bytes", lambda random: mutated_bytes(random.choice(self._good), random)),
            ("segments", self._segments),
            ("spelling", self._spelling),
            ("header", lambda random: self._signed(random, header=True, payload=False)),
            ("payload", lambda random: self._signed(random, header=False, payload=True)),
            ("both", lambda random: self._signed(random, header=True, payload=True)),
            ("text", self._text),
            ("junk", lambda random: random.randbytes(random.choice((0, 1, 5, 50, 500, 9000)))),
        ]

    def make(self, random: Random) -> tuple[str, bytes]:
        """Return the kind of a token, and the token."""
        kind, maker = random.choice(self._makers)
        return kind, maker(random)

    def good(self, number: int) -> bytes:
        """Return one of the good tokens."""
        return self._good[number % len(self._good)]

    def _segments(self, random: Random) -> bytes:
        """Cut, repeat, swap and mix the segments of good tokens."""
        pool = [segment for _ in range(2) for segment in random.choice(self._good).split(b".")]
        first = pool[:3]
        choice = random.randrange(6)
        if choice == 0:
            random.shuffle(first)
        elif choice == 1:
            first[random.randrange(3)] = random.choice(pool)
        elif choice == 2:
            first = [random.choice(pool) for _ in range(random.randrange(8))]
        elif choice == 3:
            first.insert(random.randrange(4), random.choice([b"", *pool]))
        elif choice == 4:
            first[random.randrange(3)] = b""
        else:
            at = random.randrange(3)
            first[at] = mutated_bytes(first[at], random)
        return b".".join(first)

    def _spelling(self, random: Random) -> bytes:
        """Spell the same bytes in another way, or nearly the same."""
        parts = random.choice(self._good).split(b".")
        at = random.randrange(3)
        segment = parts[at]
        last = segment[-1:]
        parts[at] = random.choice(
            [
                segment + b"=",
                segment + b"==",
                segment.replace(b"-", b"+").replace(b"_", b"/"),
                segment + b"\n",
                segment[:10] + random.choice([b" ", b"\r\n", b"\t", b"\x00", b"%", b"\xff"]) + segment[10:],
                segment[:-1] + bytes([last[0] ^ 1 if chr(last[0] ^ 1).isalnum() else last[0] ^ 2]),
                segment.swapcase(),
                segment.lower(),
                segment[:-1],
                b"=" + segment,
                b64(unb64(segment) + b"\0"),
                b64(b"\0" + unb64(segment)),
                b64(segment),
            ]
        )
        return b".".join(parts)

    def _signed(self, random: Random, *, header: bool, payload: bool) -> bytes:
        """Sign what an issuer could have meant: odd members and claims, right key or wrong one."""
        key = random.choice([*PUBLISHED.values(), *STRANGERS]) if random.random() < 0.3 else self._quick_key(random)
        members: dict[str, Any] = {"alg": key.algorithm, "typ": "JWT", "kid": key.kid}
        claims = good_claims(self.now)
        if header:
            mutate_members(members, HEADER_NAMES, random, self.now)
        if payload:
            mutate_members(claims, CLAIM_NAMES, random, self.now)
        return mint_raw(key, coded(members, random), coded(claims, random))

    def _text(self, random: Random) -> bytes:
        """Sign texts that no JSON writer makes."""
        key = self._quick_key(random)
        texts = [json.dumps({"alg": key.algorithm, "kid": key.kid}), json.dumps(good_claims(self.now))]
        at = random.randrange(2)
        data = texts[at].encode()
        if random.random() < 0.5:
            data = mutated_bytes(data, random)
        else:
            members = json.loads(texts[at])
            members[random.choice([*members, "x"])] = _HOLE
            data = json.dumps(members).encode().replace(json.dumps(_HOLE).encode(), random.choice(RAW_VALUES))
        parts = [text.encode() for text in texts]
        parts[at] = data
        return mint_raw(key, parts[0], parts[1])

    def _quick_key(self, random: Random) -> SigningKey:
        """Mostly keys whose signing costs little."""
        return PUBLISHED["a"] if random.random() < 0.05 else PUBLISHED[random.choice("eo")]
