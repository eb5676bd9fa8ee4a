"""The limit of open files (R334, R385)."""

from __future__ import annotations

import logging
import resource

import pytest

from gateway.process.open_files import FETCHES, SPARE_FILES, connections_within, fit_open_files
from gateway.server.admin.port import MAX_CONNECTIONS, most_connections
from gateway.server.sockets.listen import ACCEPTS
from gateway.server.sockets.slots import lingering_places
from gateway.settings.tables.redis import Redis
from gateway.store.redis_link import POOL_SIZE
from tests.support.composed import Issuer, Settings


def settings(connections: int, pool: int = 10, urls: int = 1) -> Settings:
    places = [f"http://127.0.0.1:{9000 + number}" for number in range(urls)]
    return Settings.model_validate(
        {
            "server": {"max_connections": connections},
            "upstreams": [{"name": "u", "urls": places, "pool_size": pool}],
            "routes": [{"path": "/", "upstream": "u", "auth": "public"}],
        }
    )


class Limits:
    """Stands for the kernel's limit of open files: of this process it could be lowered, never raised again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, refuses: bool = False) -> None:
        self.soft, self.hard, self.refuses = soft, hard, refuses
        monkeypatch.setattr(resource, "getrlimit", lambda which: (self.soft, self.hard))
        monkeypatch.setattr(resource, "setrlimit", self.set)

    def set(self, which: int, limits: tuple[int, int]) -> None:
        assert which == resource.RLIMIT_NOFILE
        assert limits[1] == self.hard
        if self.refuses:
            raise PermissionError
        self.soft = limits[0]


# fmt: off
FITS: dict[str, tuple[int, int, int]] = {
    "enough": (5000, 5000, 5000),
    "permitted to raise": (1024, 5000, 1000 + 125 + 20 + SPARE_FILES + ACCEPTS + MAX_CONNECTIONS),
    "no limit for the process": (resource.RLIM_INFINITY, resource.RLIM_INFINITY, resource.RLIM_INFINITY),
    "no limit for the system": (256, resource.RLIM_INFINITY, 1000 + 125 + 20 + SPARE_FILES + ACCEPTS + MAX_CONNECTIONS),
}
# fmt: on


@pytest.mark.parametrize("case", FITS)
@pytest.mark.rule("R385")
def test_a_limit_that_is_high_enough_or_can_be_raised_is_no_news(
    case: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is logged then."""
    soft, hard, after = FITS[case]
    limits = Limits(monkeypatch, soft, hard)
    wanted = settings(1000, pool=10, urls=2)
    assert fit_open_files(wanted) is wanted
    assert limits.soft == after
    assert not caplog.records


@pytest.mark.parametrize("refuses", [False, True])
@pytest.mark.rule("R385")
def test_a_limit_that_is_too_low_is_told_and_kept(
    refuses: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With fewer connections, so that the others still get an answer."""
    limits = Limits(monkeypatch, 200, 200 if not refuses else 5000, refuses=refuses)
    with caplog.at_level(logging.WARNING, "gateway"):
        fitted = fit_open_files(settings(1000))
    room = 200 - SPARE_FILES - ACCEPTS - most_connections(200) - 10
    assert fitted.server.max_connections == room * 8 // 9  # the ninth: who is turned away
    assert limits.soft == 200
    (line,) = [record.getMessage() for record in caplog.records]
    assert "is 200" in line
    assert str(1000 + 125 + 10 + SPARE_FILES + ACCEPTS + MAX_CONNECTIONS) in line


@pytest.mark.parametrize(
    ("room", "connections", "pools", "result"),
    [
        pytest.param(1000, 100, 100, 100, id="all that is wanted"),
        pytest.param(1000, 5000, 100, 800, id="what the pools leave"),
        pytest.param(180, 5000, 256, 80, id="half, where pools could take all"),
        pytest.param(-50, 5000, 256, 1, id="never none"),
    ],
)
@pytest.mark.rule("R431")
def test_clients_get_what_pools_leave_and_at_least_half(room: int, connections: int, pools: int, result: int) -> None:
    """With those that are turned away, or linger."""
    fit = connections_within(room, connections, pools)
    assert fit == result
    assert fit + lingering_places(fit) <= max(room - pools, room // 2, 2)


@pytest.mark.rule("R431")
def test_what_issuers_and_redis_need_is_kept_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients cannot take the files that keys, introspection and revocation need."""
    Limits(monkeypatch, 1000, 1000)
    plain = settings(5000)
    issuer = Issuer.model_validate({"name": "a", "issuer": "https://idp.test/", "audience": ["api"]})
    asking = issuer.model_copy(update={"introspection_url": "https://idp.test/i", "introspection_max_concurrent": 30})
    full = plain.model_copy(update={"issuers": [issuer, asking], "redis": Redis(url="redis://127.0.0.1:1/0")})
    without, with_them = (fit_open_files(one).server.max_connections for one in (plain, full))
    assert abs((without - with_them) * 9 // 8 - (FETCHES * 2 + 30 + POOL_SIZE * 2 + 1)) <= 1


def test_real_limits_are_read_and_set_back_to_what_they_were() -> None:
    """The calls are the system's own: a wish that is met already changes nothing."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert fit_open_files(settings(1, pool=1)).server.max_connections == 1
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
