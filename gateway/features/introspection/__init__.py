"""Tokens that their issuer is asked about (RFC 7662): whom to ask, the question, and the memory of answers.

It bounds what a flood of made-up tokens can cause.
A failure must never be taken for an answer, nor a verdict outlive the time that the configuration gives it.
"""
