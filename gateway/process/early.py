"""What has to be before anything else is imported: the entry points of processes import this file first.

Makes a start short and small. A process that imports the rest without it gets
the same gateway, a tenth of a second later.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

#: How many objects are made before the collector of cycles looks at them, until the gateway serves. What is imported
#: stays: to look through it again and again takes a sixth of the start. ``foreground.calm_collector`` ends this.
OBJECTS_BEFORE_A_LOOK = 1_000_000

# Where OpenSSL looks for the system's authorities instead of in its own folders.
_AUTHORITIES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


@contextmanager
def without_authorities() -> Iterator[None]:
    """Let contexts for TLS that are made meanwhile trust no authority, as if the system had no authorities."""
    before = {name: os.environ.get(name) for name in _AUTHORITIES}
    os.environ.update(dict.fromkeys(_AUTHORITIES, os.devnull))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


gc.set_threshold(OBJECTS_BEFORE_A_LOOK)

# aiohttp makes two contexts when it is imported, and reads a hundred certificates into each. The gateway never uses
# them: what certificates are verified by is ``tls_contexts.py``'s decision. So they may as well be empty, which takes a
# tenth off the start and 3 MiB off the process; a session that forgot to name a context would trust no server.
with without_authorities():
    import aiohttp  # noqa: F401
