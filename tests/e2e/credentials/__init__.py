"""What callers show, through the whole gateway: API keys, bound and opaque tokens, and their ends."""
