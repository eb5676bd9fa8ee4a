"""A validated configuration reaches another process unchanged, and is not validated there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from gateway.settings.loading import handed_over
from tests.support.composed import Settings, load

ROOT = Path(__file__).parents[3]

UNUSUAL = """
[server]
listen = ["LOCALHOST:080", "unix:/run/gateway.sock"]
trusted_proxies = ["10.0.0.0/8", "::1"]
workers = "auto"
[limits]
max_callers = 1000
[[issuers]]
name = "main"
issuer = ["https://idp.test/", "https://other.test"]
audience = ["api"]
claims = { token_use = "access", level = 2, beta = true, share = 0.5, great = 1e300, whole = 9223372036854775807 }
leeway_seconds = 0.25
[[upstreams]]
name = "main"
urls = ["HTTP://Service.test:80/base/", "unix:/run/a.sock:/b", "http://[::1]:9000"]
[[api_keys]]
id = "partner"
hash = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
expires = 2027-01-31T00:00:00Z
claims = { roles = ["a", "b"], level = 1.0 }
[[routes]]
path = "/a"
upstream = "main"
hosts = ["API.test", "xn--bcher-kva.test"]
claims = { role = ["a", 1, true], level = 3 }
credentials = ["jwt", "api_key"]
cors_origins = ["https://APP.test:443"]
resource = "https://api.test/"
rate_limit = [{ requests = 10 }, { requests = 100, seconds = 60, by = "address", burst = 5 }]
[[resources]]
resource = "https://api.test/"
[identity]
"X-User-Id" = "sub"
"x-roles" = ["realm_access", "roles"]
"""


def _exactly(value: Any) -> Any:
    """Return values with their types, tables and all."""
    if isinstance(value, BaseModel):
        return type(value), {name: _exactly(one) for name, one in value}
    if isinstance(value, list):
        return [_exactly(one) for one in value]
    if isinstance(value, dict):
        return {name: _exactly(one) for name, one in value.items()}
    return type(value), value


def _unusual(folder: Path) -> Settings:
    file = folder / "unusual.toml"
    file.write_text(UNUSUAL)
    return load(file, {}, {}).settings


@pytest.mark.parametrize("file", [*sorted(ROOT.glob("conf/*.toml")), None], ids=lambda file: getattr(file, "name", "-"))
def test_settings_are_the_same_at_the_other_end(file: Path | None, tmp_path: Path) -> None:
    settings = _unusual(tmp_path) if file is None else load(file, {}, {}).settings
    received = handed_over.read(Settings, handed_over.written(settings))
    assert received == settings
    assert _exactly(received) == _exactly(handed_over.read(Settings, settings.model_dump_json()))
    assert _exactly(received)[1].keys() == _exactly(settings)[1].keys()
    # What pydantic makes of the text when it validates it is the same, to the kind of each number.
    assert _exactly(received.issuers) == _exactly(Settings.model_validate_json(settings.model_dump_json()).issuers)


def test_values_of_the_other_end_cannot_be_changed(tmp_path: Path) -> None:
    received = handed_over.read(Settings, handed_over.written(_unusual(tmp_path)))
    with pytest.raises(ValueError, match="frozen"):
        received.routes[0].path = "/b"  # type: ignore[misc]


@pytest.mark.parametrize("where", [(), ("server",), ("routes", 0), ("routes", 0, "rate_limit", 0)])
@pytest.mark.parametrize("change", ["more", "less"])
def test_other_options_than_are_known_here_are_a_fault(
    where: tuple[str | int, ...], change: str, tmp_path: Path
) -> None:
    """The package was exchanged while the supervisor runs: what an option of the other one means is not known here."""
    given = json.loads(handed_over.written(_unusual(tmp_path)))
    table = given
    for step in where:
        table = table[step]
    if change == "more":
        table["deny_everything"] = True
    else:
        table.pop(next(iter(table)))
    with pytest.raises(ValueError, match="another version of the gateway"):
        handed_over.read(Settings, json.dumps(given))


def test_nothing_that_validates_is_built_at_the_other_end(tmp_path: Path) -> None:
    text = handed_over.written(_unusual(tmp_path))
    program = """
import sys
from gateway.configuration import GatewaySettings
from gateway.settings.loading import handed_over
settings = handed_over.read(GatewaySettings, sys.stdin.read())
tables = [GatewaySettings, type(settings.server), type(settings.routes[0]), type(settings.routes[0].rate_limit[0])]
print([table.__name__ for table in tables if table.__pydantic_complete__])
print([name for name in sys.modules if name.startswith("gateway.") and ".checks" in name])
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], input=text, capture_output=True, text=True, check=True, cwd=ROOT, timeout=60
    )
    assert ended.stdout.splitlines() == ["[]", "[]"]
