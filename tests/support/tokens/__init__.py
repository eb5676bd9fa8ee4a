"""Credentials: tokens, proofs, API keys and public vectors."""
