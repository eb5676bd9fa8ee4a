"""The issuers and their keys: finding the issuer of a token, fetching and refreshing, tenants of templates.

Key sets are swapped whole; readers never wait for a fetch.
What is fetched is not believed before it was checked.
"""
