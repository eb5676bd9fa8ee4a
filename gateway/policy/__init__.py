"""May this caller, and where to: routes, their rules, CORS, buckets and the names of callers.

Pure code over identities and requests; it runs on every request.
Nothing here may be cached with a token, or know how a caller was authenticated.
"""
