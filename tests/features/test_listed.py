"""The list of features: each is its folder, declares what it refuses for, and costs nothing before it is built."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gateway.errors import Reason, Reasons
from gateway.features.listed import FEATURES, reasons
from gateway.server.seam.feature import Feature, Part
from tests.support.clock import FakeClock
from tests.support.pipeline import core_of
from tests.support.tokens.verifying import make_settings

FOLDER = Path(__file__).parents[2] / "gateway" / "features"
EACH = pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)


def test_there_is_one_of_each_folder() -> None:
    names = [feature.name for feature in FEATURES]
    assert sorted(names) == sorted(file.parent.name for file in FOLDER.glob("*/__init__.py"))


@EACH
def test_a_feature_is_declared_in_its_folder(feature: Feature) -> None:
    assert type(feature).__module__ == f"gateway.features.{feature.name}.feature"
    assert type(feature).__doc__


def test_the_order_of_guards_is_that_of_the_list() -> None:
    """A request that is one too many does not use up its token, and no barred client is counted."""
    parts = {feature.name: feature.build(core_of(make_settings(), FakeClock())) for feature in FEATURES}
    guarding = [name for name, part in parts.items() if part is not None and part.guards]
    assert guarding == ["sender_constrained", "abuse_watch", "rate_limits", "single_use"]
    kinds = [kind.name for part in parts.values() if part is not None for kind in part.credentials]
    assert kinds == ["api_key", "opaque"]


@EACH
def test_its_part_does_nothing_before_it_starts(feature: Feature) -> None:
    """No task, socket or write: there is no loop here that could run one."""
    part = feature.build(core_of(make_settings(), FakeClock()))
    assert isinstance(part, Part)
    assert type(part).__module__ == f"gateway.features.{feature.name}.part"


def test_reasons_are_the_cores_and_then_each_features() -> None:
    assert reasons(()) == Reasons.all()
    assert reasons() == (*Reasons.all(), *(reason for feature in FEATURES for reason in feature.reasons))


@EACH
def test_every_reason_of_a_folder_is_declared(feature: Feature) -> None:
    module = sys.modules.get(f"gateway.features.{feature.name}.reasons")
    found = [value for value in vars(module).values() if isinstance(value, Reason)] if module else []
    assert sorted(reason.code for reason in found) == sorted(reason.code for reason in feature.reasons)


def test_the_list_imports_no_part() -> None:
    """What a gateway does not use costs it neither time nor memory."""
    code = "import gateway.features.listed, sys; print(*sorted(name for name in sys.modules if name.endswith('.part')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []
