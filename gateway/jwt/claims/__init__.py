"""What the claims of a token must say, and the identity that they make.

Pure code over parsed tokens and an issuer's policy.
No key and no signature is looked at here.
"""
