"""A public key as the signature algorithms of joserfc take it.

Nothing else lives here.
"""

from __future__ import annotations

from typing import Any

from joserfc.jwk import ECKey, OKPKey, RSAKey


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
