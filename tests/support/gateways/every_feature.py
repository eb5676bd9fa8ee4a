"""A configuration that asks for every optional feature, for tests that walk over what all of them show."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def every_feature(folder: Path) -> dict[str, Any]:
    """Return options of ``running_gateway``, which need ``redis`` beside them.

    Args:
        folder: where a file is written that they name.
    """
    secret = folder / "client-secret"
    secret.write_text("secret")
    asked = {
        "introspection_url": "http://127.0.0.1:1/",
        "introspection_client_id": "gateway",
        "introspection_client_secret_file": str(secret),
    }
    route = {
        "path": "/",
        "credentials": ["jwt", "opaque", "api_key"],
        "rate_limit": [{"requests": 1000}],
        "single_use": True,
        "resource": "https://api.test",
    }
    return {
        "issuer": asked,
        "api_keys": [{"id": "partner", "hash": "sha256:" + "0" * 64}],
        "resources": [{"resource": "https://api.test"}],
        "routes": (route,),
    }
