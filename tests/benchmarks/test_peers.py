"""benchmarks/peers and footprint.py: each peer that is here does its work, logged or not, behind a proxy, in chunks.

What is missing on this machine is skipped by name; numbers are not tested here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.footprint import per_connection, per_token
from benchmarks.load import messages
from benchmarks.measure import Options, measure_footprint
from benchmarks.mixed import PATHS
from benchmarks.model import PER_CONNECTION, PER_TOKEN
from benchmarks.peers import PEERS
from benchmarks.peers.base import Setup
from benchmarks.peers.limits import SKETCH
from benchmarks.peers.pythons import found, interpreter, unavailable
from benchmarks.prove import prove_mixed
from benchmarks.scenarios import BY_NAME
from benchmarks.stage import Stage, stage
from benchmarks.tokens import material
from benchmarks.traffic import Sends, build
from tests.conftest import require

ROUTED = Setup(algorithm="ES256", paths=PATHS)

#: Those that come with the project; the others are proved by the suite itself before they are measured.
OURS = ("gateway", "gateway-full-lane", "naive", "plain", "direct", "nginx")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("cache")) as made:
        yield made


def proved(built: Stage, name: str, setup: Setup, sends: Sends) -> None:
    """Start a peer, which has to prove its work, and send it real traffic."""
    keys = material(setup.algorithm, built.cache)
    with built.running(PEERS[name], setup) as subject:
        assert not subject.access_log.exists() or subject.access_log.stat().st_size < 1000
        following = messages(build(sends, keys, 0.003))
        prove_mixed(name, subject.target, following, setup, PEERS[name].work)


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize(
    ("setup", "sends"),
    [
        (ROUTED, Sends(mixed=True, body=1024)),
        (Setup(algorithm="ES256", paths=PATHS, log=False), Sends(mixed=True)),
        (Setup(algorithm="ES256", paths=PATHS, trusted=True), Sends(mixed=True, proxied=True)),
        (Setup(algorithm="ES256", paths=PATHS, chunked=True), Sends(mixed=True)),
    ],
    ids=["logged", "unlogged", "proxied", "chunked"],
)
def test_every_peer_does_its_work_in_every_form(built: Stage, name: str, setup: Setup, sends: Sends) -> None:
    peer = PEERS[name]
    if peer.offers(setup):
        return
    require(not peer.missing(), f"{name}: {peer.missing()}")
    proved(built, name, setup, sends)


@pytest.mark.parametrize("name", ["envoy-cache", "haproxy"])
def test_peers_that_are_installed_do_their_work(built: Stage, name: str) -> None:
    why = PEERS[name].missing()
    require(not why, f"{name}: {why}")
    proved(built, name, ROUTED, Sends(mixed=True))


def test_a_sketch_runs_only_where_its_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sketch, file = PEERS["sketch"], tmp_path / "sketch.py"
    monkeypatch.delenv(SKETCH, raising=False)
    assert sketch.missing() == "BENCH_SKETCH names no file"
    monkeypatch.setenv(SKETCH, str(file))
    assert sketch.missing() == "BENCH_SKETCH does not name a file"
    file.touch()
    assert sketch.missing() is None


def test_another_python_is_found_by_its_version_or_missed_with_a_line(tmp_path: Path) -> None:
    here = ".".join(map(str, sys.version_info[:2]))
    assert unavailable("3.99", tmp_path) == "python3.99 is not installed"
    assert found("3.99") is None
    assert interpreter("3.14", tmp_path) == tmp_path / "python3.14" / "bin" / "python"
    python = found(here)
    require(python is not None, f"python{here} is not on the path")
    assert python is not None
    assert python.name == f"python{here}"


def test_what_a_connection_and_a_token_take_is_measured(built: Stage) -> None:
    """Small numbers of both; what they take is more than nothing and less than a MiB."""
    keys, setup = material("ES256", built.cache), Setup(algorithm="ES256", log=False)
    with built.running(PEERS["plain"], setup) as subject:
        assert 0 <= per_connection(subject, build(Sends(), keys), 0.1) < 1024
    with built.running(PEERS["gateway"], setup) as subject:
        assert 0 < per_token(subject, built.driver, keys, 0.05) < 1024


def test_the_footprint_has_both_numbers_of_each_row(built: Stage) -> None:
    scenario = BY_NAME["footprint"]
    rows = {"gateway": scenario.rows["gateway"]}
    said: list[str] = []
    measured = measure_footprint(replace(scenario, rows=rows), built, Options(1, 1.0, 0.01), said.append)
    assert set(measured["gateway"].rounds) == {PER_CONNECTION.key, PER_TOKEN.key}
    assert len(said) == 1
