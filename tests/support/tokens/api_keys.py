"""API keys for tests: texts that look like real ones, their entries, and a file of them.

Nothing here is a test.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

#: A key as ``gateway apikey new`` makes it, and others.
KEY = b"gwk_partner_7d1c0a5f6be94d2283c1f0a49e6b57d8c3a1f2e4b5d60718293a4b5c6d7e8f90"
OTHER = b"gwk_other_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#: What some other system has handed out.
FOREIGN = b"AbC.def/ghi+jkl==|\xc3\xa9 with space"


def hash_of(key: bytes) -> str:
    """Return a key's stored form, made without the gateway's code."""
    return "sha256:" + hashlib.sha256(key).hexdigest()


def entry(key: bytes = KEY, name: str = "partner", **options: Any) -> dict[str, Any]:
    """Return the entry of a key."""
    return {"id": name, "hash": hash_of(key), **options}


def write_keys(file: Path, *entries: dict[str, Any] | str) -> None:
    """Put another version of a file of keys into its place."""
    lines = [line if isinstance(line, str) else json.dumps(line) for line in entries]
    beside = file.with_suffix(".new")
    beside.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    os.replace(beside, file)
