"""Templates: what is one, which texts fit, and that nothing but a plain tenant ever gets into an address."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.settings import templates
from gateway.settings.templates import Template

REALMS = "https://idp.test/realms/{tenant}"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (REALMS, Template("https://idp.test/realms/", "", False)),
        ("https://sts.windows.net/{tenantid}/", Template("https://sts.windows.net/", "/", False)),
        ("https://{tenant}.idp.test/", Template("https://", ".idp.test/", True)),
        ("https://{tenant}.idp.test", Template("https://", ".idp.test", True)),
        ("http://localhost:8080/{tenant}", Template("http://localhost:8080/", "", False)),
    ],
)
def test_a_template_is_text_around_a_tenant(text: str, parts: Template) -> None:
    assert templates.template_problem(text) == ""
    assert templates.split(text) == parts
    assert parts.tenant_of(parts.fill("acme")) == "acme"
    assert templates.fill(text, "acme") == parts.fill("acme")


@pytest.mark.parametrize(
    "text",
    [
        "urn:{tenant}",
        "https://idp.test/realms/x-{tenant}",
        "https://idp.test/{tenant}x",
        "https://a-{tenant}.test/",
        "https://idp.test:{tenant}/",
        "https://{tenant}@idp.test/",
        "https://idp.test/{tenant}/{tenant}",
        "https://idp.test/{tenant}/{realm}",
        "https://idp.test/{{tenant}}",
        "https://idp.test/{tenant}?x",
        "https://idp.test/{tenant}/#x",
        "https://idp.test/?t={tenant}",
    ],
)
def test_other_texts_with_a_placeholder_are_none(text: str) -> None:
    """One whole segment or label, once: everything else could be read in two ways."""
    assert templates.placeholder_in(text)
    assert templates.template_problem(text)


@pytest.mark.parametrize(
    "value",
    [
        "https://idp.test/realms/",
        "https://idp.test/realms",
        "https://idp.test/realms/a/b",
        "https://idp.test/realms/a/",
        "https://idp.test/realms/.",
        "https://idp.test/realms/..",
        "https://idp.test/realms/.a",
        "https://idp.test/realms/a%2fb",
        "https://idp.test/realms/a%00",
        "https://idp.test/realms/a?b",
        "https://idp.test/realms/a#b",
        "https://idp.test/realms/a@b",
        "https://idp.test/realms/a:b",
        "https://idp.test/realms/a b",
        "https://idp.test/realms/a\n",
        "https://idp.test/realms/\uff41",
        "https://idp.test/realms/\u0661",
        "https://idp.test/realms/" + "a" * 129,
        "https://idp.test.evil/realms/a",
        "https://evil.test/https://idp.test/realms/a",
        "HTTPS://idp.test/realms/a",
    ],
)
@pytest.mark.rule("R085", "R086")
def test_what_is_no_plain_tenant_does_not_fit(value: str) -> None:
    """A prefix is no match, and nothing that an address would give a meaning gets into one (CWE-918)."""
    assert templates.split(REALMS).tenant_of(value) is None


@pytest.mark.parametrize("tenant", ["a", "eu-west-1_AbC", "8eaef023-2b34-4da1-9baa-8bc8c9d6a490", "a.b", "a" * 128])
def test_real_tenants_fit(tenant: str) -> None:
    template = templates.split(REALMS)
    assert template.tenant_of(template.fill(tenant)) == tenant
    assert templates.tenant_name(tenant) == tenant


@given(st.text(max_size=200))
def test_whatever_fits_is_the_whole_rest_and_harmless(text: str) -> None:
    found = templates.split(REALMS).tenant_of("https://idp.test/realms/" + text)
    assert found in (None, text)
    assert found is None or not set(found) & set("/%?#@:\\ ")
    assert found is None or found.strip(".") == found


@pytest.mark.parametrize("name", ["", ".", "a/b", "a%2fb", "-a", "a" * 129, "a\n"])
def test_a_listed_tenant_that_no_token_could_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not a tenant"):
        templates.tenant_name(name)


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}".replace("(?:-[0-9a-f]{4}){3}", "-[0-9a-f]{4}" * 3),
        "team-[a-z0-9]+",
        r"(?:dev|prod)-\w+",
        "[)*+]a",
        r"\)*a?",
    ],
)
def test_a_pattern_that_is_quick_to_compare_is_taken(pattern: str) -> None:
    assert templates.tenant_pattern(pattern) == pattern


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("[a-z", "is not a valid regular expression"),
        ("(a+)+", "repeats a group"),
        ("(?:a|aa)*", "repeats a group"),
        ("(ab){2,}", "repeats a group"),
        ("a*a*a*a*", "more than 3 open repetitions"),
        (r"(a+)-\1", "refers back"),
        ("(?P<x>a)(?P=x)", "refers back"),
        ("(?i)a", "has flags"),
    ],
)
def test_a_pattern_that_anybody_could_keep_busy_is_refused(pattern: str, problem: str) -> None:
    """CWE-1333: any client chooses the text that it is compared with."""
    with pytest.raises(ValueError, match=problem):
        templates.tenant_pattern(pattern)


def test_the_worst_pattern_that_is_taken_is_quick() -> None:
    """CWE-1333: the longest tenant against as many open repetitions as may be."""
    compiled = re.compile(templates.tenant_pattern("[a-z]*[a-z]*[a-z]*!"))
    began = time.process_time()
    assert compiled.fullmatch("a" * templates.MAX_TENANT) is None
    assert time.process_time() - began < 0.1


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://a.test/{tenant}", "https://a.test/{tenant}", True),
        ("https://a.test/x/{tenant}", "https://a.test/{tenant}/y", True),
        ("https://a.test/{tenant}", "https://a.test/{tenant}/v2.0", False),
        ("https://a.test/{tenant}", "https://b.test/{tenant}", False),
        ("https://a.test/{tenant}", "https://a.test/{tenantid}", True),
    ],
)
def test_two_templates_overlap_when_one_issuer_could_fit_both(one: str, other: str, *, same: bool) -> None:
    assert templates.overlap(one, other) is templates.overlap(other, one) is same


@pytest.mark.parametrize(
    ("tenant", "fits"), [("acme", True), ("a-1", True), ("Acme", False), ("a.b", False), ("a_b", False)]
)
def test_a_tenant_in_a_host_is_one_label_in_its_one_spelling(tenant: str, *, fits: bool) -> None:
    assert templates.host_label(tenant) is fits
