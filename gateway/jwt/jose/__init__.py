"""JWS and JWK: strict base64url and JSON, the form of a token, keys, and signatures by joserfc.

Pure code; nothing that a token names is followed.
The danger is leniency: two readings of one token must be impossible.
"""
