"""The issuers and their keys: fetching, refreshing, tenants of templates.

Key sets are swapped whole; readers never wait for a fetch.
What is fetched is not believed before it was checked.
"""
