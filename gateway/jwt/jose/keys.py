"""Verification keys of one issuer: the immutable set, and its import from JWKS or PEM.

Says what a key is, and which keys fit a token; when and from where they are
fetched is the refresher's. The danger of this file is trust: every key in a set
can admit any caller. So each entry is judged alone, an odd one is left out with
its reason and harms no other (RFC 7517 section 5), and a key serves only the
algorithms that its type, curve and members allow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate
from joserfc.jwk import ECKey, JWKRegistry, OKPKey, RSAKey

from gateway.errors import printable
from gateway.jwt.jose.strict_json import StrictJsonError, parse_object
from gateway.jwt.jose.weak_keys import MAX_RSA_BITS, MIN_RSA_BITS, rsa_problem
from gateway.settings.readable import MARK

#: Most bytes and entries of a key set; issuers publish a handful of keys in a few KiB.
MAX_KEY_SET_BYTES, MAX_KEYS = 256 * 1024, 100

#: Most keys tried for a token that names none (RFC 7515 section 4.1.4).
MAX_CANDIDATES = 8

#: The two names of one algorithm for Ed25519 keys (RFC 8037 section 3.1, RFC 9864 section 2.2).
ED25519_NAMES = frozenset({"EdDSA", "Ed25519"})

_RSA_ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_CURVE_ALGORITHMS = {
    "P-256": frozenset({"ES256"}),
    "P-384": frozenset({"ES384"}),
    "P-521": frozenset({"ES512"}),
    "Ed25519": ED25519_NAMES,
}
_PUBLIC_MEMBERS = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x")}
PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_CURVE_NAMES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
_BEGIN = b"-----BEGIN "


class PreparedKey:
    """All that joserfc's algorithms ask of a key to verify; a JWK would look at its members for each token anew.

    Attributes:
        public: the key object of ``cryptography``.
        curve_key_size: bits of the curve's field; 0 for keys that are not EC.
    """

    __slots__ = ("curve_key_size", "public")

    def __init__(self, key: RSAKey | ECKey | OKPKey) -> None:
        self.public = key.public_key
        self.curve_key_size = key.curve_key_size if isinstance(key, ECKey) else 0

    def get_op_key(self, _operation: str) -> Any:
        """Return the key for an operation, which is always to verify."""
        return self.public


class KeySetError(ValueError):
    """The whole key set is unusable; the text holds no key material."""


class UnusableKeyError(ValueError):
    """One key is unusable; the text holds no key material."""


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A public key that may check signatures.

    Attributes:
        kid: its name in the issuer's set; None when it has none.
        algorithms: the JWS ``alg`` names that it serves.
        thumbprint: RFC 7638 with SHA-256: the identity of the key material.
        key: the prepared key object.
        issuer: the JWK's member of that name, which Microsoft has: whose tokens it signs; empty for an odd one.
    """

    kid: str | None
    algorithms: frozenset[str]
    thumbprint: str
    key: PreparedKey = field(repr=False, compare=False)  # the thumbprint speaks for it
    issuer: str | None = None


@dataclass(frozen=True, slots=True)
class RejectedKey:
    """An entry of a key set that was not taken, or not taken whole.

    Attributes:
        index: its place in the set, from 0.
        kid: its ``kid`` as printable text, shortened; empty when it has none.
        problem: why, for the operator; no key material.
    """

    index: int
    kid: str
    problem: str


@dataclass(frozen=True, slots=True)
class KeySet:
    """The keys that an issuer vouches for at one moment, in its order, and what was not taken. It never changes.

    Attributes:
        kids: the names in the set, each once, in the issuer's order.
    """

    keys: tuple[VerifyingKey, ...] = ()
    rejected: tuple[RejectedKey, ...] = ()
    kids: tuple[str, ...] = field(init=False, repr=False, compare=False)
    _identities: frozenset[tuple[str | None, str, frozenset[str], str | None]] = field(
        init=False, repr=False, compare=False
    )
    _fitting: Mapping[tuple[str | None, str], tuple[VerifyingKey, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        fitting: dict[tuple[str | None, str], tuple[VerifyingKey, ...]] = {}
        for key in self.keys:
            for algorithm in key.algorithms:
                slot = (key.kid, algorithm)
                fitting[slot] = (*fitting.get(slot, ()), key)
        names = dict.fromkeys(key.kid for key in self.keys if key.kid is not None)
        object.__setattr__(self, "kids", tuple(names))
        object.__setattr__(self, "_fitting", fitting)
        object.__setattr__(self, "_identities", frozenset(map(_identity, self.keys)))

    def candidates(self, kid: str | None, algorithm: str) -> tuple[VerifyingKey, ...]:
        """Return the keys that a token's header points at and that serve its algorithm.

        A named token gets every key of that name (names may repeat, RFC 7517
        section 4.5), or the nameless keys when no key has the name. A nameless
        token gets every key. The last two give at most ``MAX_CANDIDATES``.
        Empty: the issuer has no such key, as far as is known now.
        """
        if kid is None:
            return tuple(key for key in self.keys if algorithm in key.algorithms)[:MAX_CANDIDATES]
        named = self._fitting.get((kid, algorithm))
        if named is not None:
            return named
        if kid in self.kids:
            return ()
        return self._fitting.get((None, algorithm), ())[:MAX_CANDIDATES]

    def trusts(self, key: VerifyingKey) -> bool:
        """Say whether this very key (name, material, algorithms and issuer) is in the set."""
        return _identity(key) in self._identities


def import_jwks(data: bytes) -> KeySet:
    """Import a JWK Set (RFC 7517 section 5) entry by entry.

    A byte order mark before the text is forgiven. Private members are never
    loaded: the key is used without them, and reported. Entries beyond
    ``MAX_KEYS`` are ignored, and reported.

    Raises:
        KeySetError: for too many bytes, for what is no object with an array
            ``keys``, and when no entry is usable.
    """
    _check_size(data)
    try:
        entries = parse_object(data.removeprefix(MARK)).get("keys")
    except StrictJsonError as error:
        raise KeySetError(f"the key set is {error}") from None
    if not isinstance(entries, list):
        raise KeySetError("the key set has no array 'keys'")
    keys: list[VerifyingKey] = []
    rejected: list[RejectedKey] = []
    for index, entry in enumerate(entries[:MAX_KEYS]):
        kid = entry.get("kid") if isinstance(entry, dict) else None
        name = printable(kid) if isinstance(kid, str) else ""
        try:
            keys.append(import_jwk(entry))
            if not PRIVATE_MEMBERS.isdisjoint(entry):
                rejected.append(RejectedKey(index, name, "private members are published: the key must be replaced"))
        except UnusableKeyError as error:
            rejected.append(RejectedKey(index, name, str(error)))
    if len(entries) > MAX_KEYS:
        rejected.append(RejectedKey(MAX_KEYS, "", f"more than {MAX_KEYS} keys: the rest is ignored"))
    return _usable(keys, rejected)


def import_pem(data: bytes) -> KeySet:
    """Import every public key and certificate of a PEM text; none of them has a ``kid``.

    Of a certificate only the key counts: its dates and its issuer are not checked.

    Raises:
        KeySetError: for too many bytes, and when no block is usable.
    """
    _check_size(data)
    keys: list[VerifyingKey] = []
    rejected: list[RejectedKey] = []
    blocks = data.split(_BEGIN)[1:]
    for index, block in enumerate(blocks[:MAX_KEYS]):
        try:
            keys.append(_from_pem(block))
        except UnusableKeyError as error:
            rejected.append(RejectedKey(index, "", str(error)))
    if len(blocks) > MAX_KEYS:
        rejected.append(RejectedKey(MAX_KEYS, "", f"more than {MAX_KEYS} keys: the rest is ignored"))
    return _usable(keys, rejected)


def import_keys(data: bytes) -> KeySet:
    """Import a key file by its content, as ``import_pem`` or else ``import_jwks``, with their errors."""
    is_object = data.removeprefix(MARK).lstrip(b" \t\r\n").startswith(b"{")
    return import_pem(data) if not is_object and _BEGIN in data else import_jwks(data)


def _check_size(data: bytes) -> None:
    if len(data) > MAX_KEY_SET_BYTES:
        raise KeySetError(f"the key set is longer than {MAX_KEY_SET_BYTES} bytes")


def _usable(keys: list[VerifyingKey], rejected: list[RejectedKey]) -> KeySet:
    if not keys:
        reasons = "; ".join(f"key {item.index}: {item.problem}" for item in rejected[:5])
        raise KeySetError(f"no usable key ({reasons or 'the set is empty'})")
    return KeySet(tuple(keys), tuple(rejected))


def _identity(key: VerifyingKey) -> tuple[str | None, str, frozenset[str], str | None]:
    return key.kid, key.thumbprint, key.algorithms, key.issuer


def import_jwk(entry: Any) -> VerifyingKey:
    """Return the public key in one JWK (RFC 7517 section 4), or raise ``UnusableKeyError``."""
    if not isinstance(entry, dict):
        raise UnusableKeyError("not a JSON object")
    for member in ("kid", "alg"):
        if member in entry and not isinstance(entry[member], str):
            raise UnusableKeyError(f"'{member}' is not a string")
    if entry.get("use", "sig") != "sig":
        raise UnusableKeyError("'use' is not 'sig'")
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise UnusableKeyError("'key_ops' does not allow 'verify'")
    kty: Any = entry.get("kty")
    if kty == "oct":
        raise UnusableKeyError("a symmetric key cannot be public")
    members = _PUBLIC_MEMBERS.get(kty) if isinstance(kty, str) else None
    if members is None:
        raise UnusableKeyError("'kty' is not one of RSA, EC, OKP")
    if not all(isinstance(entry.get(member), str) for member in members):
        raise UnusableKeyError(f"a {kty} key needs the strings {', '.join(members)}")
    if kty != "RSA" and entry["crv"] not in _CURVE_ALGORITHMS:
        raise UnusableKeyError("'crv' is not one of P-256, P-384, P-521, Ed25519")
    if kty == "RSA" and len(entry["n"]) + len(entry["e"]) > MAX_RSA_BITS // 4:  # base64 of 1.5 times the bound
        raise UnusableKeyError(f"the RSA numbers are longer than {MAX_RSA_BITS} bits")
    if kty == "RSA" and len(entry["n"]) < MIN_RSA_BITS // 6:  # the library would warn on each import
        raise UnusableKeyError(f"the RSA modulus is shorter than {MIN_RSA_BITS} bits")
    try:
        key = JWKRegistry.import_key({"kty": kty, **{member: entry[member] for member in members}})
    except Exception:  # KeyError, ValueError and others escape from the library for odd members
        raise UnusableKeyError(f"the members are not those of a valid {kty} key") from None
    issuer = entry.get("issuer")
    return _verifying_key(
        key.public_key, entry.get("kid"), entry.get("alg"), issuer if issuer is None or isinstance(issuer, str) else ""
    )


def _from_pem(block: bytes) -> VerifyingKey:
    label = block.partition(b"-----")[0]
    try:
        if label == b"CERTIFICATE":
            public: Any = load_pem_x509_certificate(_BEGIN + block).public_key()
        elif label in (b"PUBLIC KEY", b"RSA PUBLIC KEY"):
            public = load_pem_public_key(_BEGIN + block)
        else:
            raise UnusableKeyError("not a PEM block of type PUBLIC KEY or CERTIFICATE")
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if isinstance(error, UnusableKeyError):
            raise
        raise UnusableKeyError("not a valid PEM block") from None
    return _verifying_key(public, None, None)


def _verifying_key(public: Any, kid: str | None, algorithm: str | None, issuer: str | None = None) -> VerifyingKey:
    """Judge a key by its numbers, so that every way of writing it ends as one identity."""
    key: RSAKey | ECKey | OKPKey
    if isinstance(public, rsa.RSAPublicKey):
        numbers = public.public_numbers()
        if problem := rsa_problem(numbers.n, numbers.e):
            raise UnusableKeyError(problem)
        key, algorithms = RSAKey.import_key(public), _RSA_ALGORITHMS
    elif isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name in _CURVE_NAMES:
        key, algorithms = ECKey.import_key(public), _CURVE_ALGORITHMS[_CURVE_NAMES[public.curve.name]]
    elif isinstance(public, ed25519.Ed25519PublicKey):
        key, algorithms = OKPKey.import_key(public), ED25519_NAMES
    else:
        raise UnusableKeyError("not an RSA, P-256, P-384, P-521 or Ed25519 key")
    if algorithm is not None:
        if algorithm not in algorithms:
            raise UnusableKeyError("'alg' is not a signature algorithm for this kind of key")
        algorithms = ED25519_NAMES if algorithm in ED25519_NAMES else frozenset({algorithm})
    return VerifyingKey(kid, algorithms, key.thumbprint(), PreparedKey(key), issuer)
