"""The reasons for which a bound token is refused: its sender has not proved to have the key or certificate."""

from __future__ import annotations

from gateway.errors import INVALID_DPOP_PROOF, INVALID_TOKEN, USE_DPOP_NONCE, Reason

WRONG_CERTIFICATE = Reason("wrong_certificate", INVALID_TOKEN, "The access token is bound to another certificate.")
WRONG_PROOF_KEY = Reason("wrong_proof_key", INVALID_TOKEN, "The access token is bound to another key.")
MISSING_PROOF = Reason("missing_proof", INVALID_DPOP_PROOF)
SEVERAL_PROOFS = Reason("several_proofs", INVALID_DPOP_PROOF)
MALFORMED_PROOF = Reason("malformed_proof", INVALID_DPOP_PROOF)
UNUSABLE_PROOF_KEY = Reason("unusable_proof_key", INVALID_DPOP_PROOF)
PROOF_SIGNATURE = Reason("proof_signature", INVALID_DPOP_PROOF)
FOREIGN_PROOF = Reason("foreign_proof", INVALID_DPOP_PROOF)
STALE_PROOF = Reason("stale_proof", INVALID_DPOP_PROOF, "The DPoP proof is too old, or from the future.")
REPLAYED_PROOF = Reason("replayed_proof", INVALID_DPOP_PROOF, "The DPoP proof was used before.")
PROOF_NONCE = Reason("proof_nonce", USE_DPOP_NONCE)

#: All of them.
REASONS = (
    WRONG_CERTIFICATE,
    WRONG_PROOF_KEY,
    MISSING_PROOF,
    SEVERAL_PROOFS,
    MALFORMED_PROOF,
    UNUSABLE_PROOF_KEY,
    PROOF_SIGNATURE,
    FOREIGN_PROOF,
    STALE_PROOF,
    REPLAYED_PROOF,
    PROOF_NONCE,
)
