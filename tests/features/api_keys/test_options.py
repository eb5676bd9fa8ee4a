"""The declaration of one API key: its values, and the claims that it stands for."""

from __future__ import annotations

import math
import tomllib
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.features.api_keys.options import ApiKey, claims_of, expires_at, key_hash
from gateway.settings.values import moment
from tests.support.composed import Settings
from tests.support.tokens.api_keys import entry


def made(**options: Any) -> ApiKey:
    return ApiKey.model_validate(entry(**options))


def problem(**options: Any) -> str:
    """Return what is said about an option's value; nothing when it is accepted."""
    try:
        ApiKey.model_validate({**entry(), **options})
    except ValidationError as error:
        return str(error.errors()[0].get("ctx", {}).get("error", error.errors()[0]["type"]))
    return ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256:",
        "a" * 64,
        "sha256:" + "a" * 63,
        "sha256:" + "a" * 65,
        "sha256:" + "A" * 64,
        "SHA256:" + "a" * 64,
        "sha512:" + "a" * 64,
        " sha256:" + "a" * 64,
        "sha256:" + "a" * 64 + "\n",
        "sha256:" + "\u0661" * 64,
        "gwk_partner_" + "a" * 64,
    ],
)
def test_hash_has_one_form(text: str) -> None:
    with pytest.raises(ValueError, match="64 lower-case hex digits"):
        key_hash(text)


def test_hash_is_taken_as_it_is() -> None:
    assert key_hash("sha256:" + "0a" * 32) == "sha256:" + "0a" * 32


@pytest.mark.parametrize(
    "claims", [{"a": {"b": 1}}, {"a": [[1]]}, {"a": None}, {"": 1}, {"a": math.nan}, {"a": math.inf}]
)
def test_claims_are_texts_numbers_truths_and_lists_of_them(claims: dict[str, Any]) -> None:
    assert problem(claims=claims)
    assert not problem(claims={"a": "x", "b": 1, "c": 1.5, "d": True, "e": ["x", 1, 1.5, False], "f": []})


@pytest.mark.parametrize("name", ["sub", "client_id", "azp", "scope", "exp", "nbf", "iss"])
def test_claims_that_other_options_make_are_refused(name: str) -> None:
    """An entry says each thing once, and nothing in an issuer's name."""
    assert problem(claims={name: "x"}).startswith(f"`{name}` ")


MOMENTS = [
    ("1970-01-01T00:00:00Z", 0.0),
    ("1970-01-01t00:00:00z", 0.0),
    ("1970-01-01 01:00:00+01:00", 0.0),
    ("1969-12-31T23:30:00.5-00:30", 0.5),
    ("9999-12-31T23:59:59-23:59", 253_402_387_139.0),
]


@pytest.mark.parametrize(("text", "seconds"), MOMENTS)
def test_end_is_a_date_time_with_its_offset(text: str, seconds: float) -> None:
    """RFC 3339 section 5.6."""
    assert moment(text) == seconds
    assert expires_at(made(expires=text)) == seconds


@pytest.mark.parametrize(
    "text",
    [
        *("soon", "2027-01-31", "2027-01-31T00:00:00", "2027-02-30T00:00:00Z", "2027-01-31T24:00:00Z"),
        *("20270131T000000Z", "2027-01-31T00:00Z", "2027-01-31T00:00:00+1", "1800000000", "2027-01-31T00:00:00Z "),
        *("2027-W05-1T00:00:00Z", "2027-01-31T00:00:00.Z", "2027-01-31T00:00:00+25:00"),
        "\u0662\u0660\u0662\u0667-01-31T00:00:00Z",
    ],
)
def test_other_dates_are_refused(text: str) -> None:
    assert "must be a date-time with its offset" in problem(expires=text)


@pytest.mark.parametrize(
    ("text", "accepted"),
    [
        ("2027-01-31T00:00:00Z", True),
        ("2027-01-31 00:00:00.25+02:00", True),
        ("2027-01-31T00:00:00", False),
        ("2027-01-31", False),
        ("07:32:00", False),
        ("5", False),
    ],
)
def test_end_may_be_toml_s_own_date_time(text: str, accepted: bool) -> None:
    value = tomllib.loads(f"expires = {text}")["expires"]
    assert (problem(expires=value) == "") is accepted
    if accepted:
        assert expires_at(made(expires=value)) == moment(text)


def test_without_an_end_a_key_is_good_for_ever() -> None:
    assert expires_at(made()) == math.inf
    assert "exp" not in claims_of(made())


def test_key_stands_for_the_claims_of_a_token_with_the_same_rights() -> None:
    key = made(owner="alice", scopes=["a", "b"], claims={"role": "x"}, expires="1970-01-01T00:00:10Z")
    assert claims_of(key) == {"role": "x", "sub": "alice", "client_id": "partner", "scope": "a b", "exp": 10}
    assert claims_of(made(expires="1970-01-01T00:00:10.5Z"))["exp"] == 10.5
    assert claims_of(made()) == {"sub": "partner", "client_id": "partner"}


def test_settings_keep_keys_through_json() -> None:
    """Workers get the configuration as JSON."""
    key = entry(expires=tomllib.loads("a = 2027-01-31T00:00:00Z")["a"], claims={"a": [1, True, "x"]})
    settings = Settings.model_validate(
        {
            "api_keys": [key],
            "upstreams": [{"name": "u", "urls": ["http://127.0.0.1:1"]}],
            "routes": [{"path": "/", "upstream": "u", "credentials": ["api_key"]}],
        }
    )
    assert Settings.model_validate_json(settings.model_dump_json()) == settings
