"""Variables become tables under the names that pydantic-settings derives."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gateway.settings.loading.variables import read_variables
from tests.support.composed import Settings


@pytest.mark.parametrize(
    ("name", "text", "tables"),
    [
        ("GATEWAY_SERVER_WORKERS", "2", {"server": {"workers": "2"}}),
        ("GATEWAY_SERVER_TRUSTED_PROXIES", "10.0.0.1, ::1", {"server": {"trusted_proxies": ["10.0.0.1", "::1"]}}),
        ("GATEWAY_SERVER_TRUSTED_PROXIES", '["10.0.0.1"]', {"server": {"trusted_proxies": ["10.0.0.1"]}}),
        ("GATEWAY_IDENTITY", '{"x-user": "sub"}', {"identity": {"x-user": "sub"}}),
    ],
)
def test_a_name_leads_to_its_table(name: str, text: str, tables: dict[str, object]) -> None:
    assert read_variables(Settings, {name: text}, "GATEWAY_", ("identity", "routes")) == tables


@pytest.mark.parametrize("given", [{}, {"PATH": "/bin"}, {"GATEWAY_ISSUER": "https://idp.test/"}])
def test_the_library_is_imported_for_variables_only(given: dict[str, str]) -> None:
    program = f"""
import sys
from gateway.configuration import GatewaySettings
from gateway.settings.loading.environment import read_environment
read_environment(GatewaySettings, {given!r})
print("pydantic_settings" in sys.modules)
read_environment(GatewaySettings, {{"GATEWAY_SERVER_WORKERS": "2"}})
print("pydantic_settings" in sys.modules)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout.split() == ["False", "True"]
