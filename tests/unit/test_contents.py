"""Whether a dict of dicts still holds the very same values, few or many."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any

import pytest

from arrayoptim.engines import contents

State = dict[int, dict[str, Any]]


def state(count: int) -> State:
    """Return a dict of dicts."""
    pairs = ((k, {"first": [k], "second": [k], "step": None}) for k in range(count))
    return collections.defaultdict(dict, pairs)


def replaced(given: State) -> None:
    """Replace a dict by an equal one."""
    given[len(given) // 2] = dict(given[len(given) // 2])


def equal(given: State) -> None:
    """Replace a value by an equal one."""
    given[len(given) - 1]["second"] = list(given[len(given) - 1]["second"])


def exchanged(given: State) -> None:
    """Exchange the values of two keys."""
    own = given[0]
    own["first"], own["second"] = own["second"], own["first"]


CHANGES: list[Callable[[State], object]] = [
    replaced,
    equal,
    exchanged,
    lambda given: given[len(given) - 1].pop("step"),
    lambda given: given[0].update(more=1),
    lambda given: given[len(given) - 1].update(more=1),
    lambda given: given[1].clear(),
    lambda given: given.pop(0),
    lambda given: given.pop(len(given) - 1),
    lambda given: given.update({-1: {}}),
    lambda given: given.update({-1: {"first": 1}}),
    lambda given: given.clear(),
    lambda given: given.update({0: given.pop(0)}),
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("count", [2, 40, 400])
@pytest.mark.parametrize("readable", [True, False])
def test_every_change_is_noticed(
    change: Callable[[State], object],
    count: int,
    readable: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of dicts and values, their number and their order; in machine code, and without it."""
    if not readable:
        monkeypatch.setattr(contents, "_comparison", lambda: None)
    given = state(count)
    known = contents.Contents(given)
    assert known.same(given) and known.same(dict(given))
    change(given)
    assert not known.same(given)
    assert contents.Contents(given).same(given)
