"""Requests and responses on their way through the gateway: answers, fields, content, upstreams."""
