"""Whether sequences hold the very same objects, few or many."""

from __future__ import annotations

import pytest

from arrayoptim.arrays import identity


@pytest.mark.parametrize("readable", [True, False])
@pytest.mark.parametrize("count", [0, 1, 5, 99, 100, 1000])
def test_the_very_same_objects(count: int, readable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects that are only equal are others, as is a part, another order and one more."""
    monkeypatch.setattr(identity, "_READABLE", readable and identity._READABLE)
    some = [[k] for k in range(count)]
    assert identity.same_objects(some, tuple(some))
    assert not identity.same_objects(some, [*some, None])
    for k in {0, count // 2, count - 1} if count else ():
        others = list(some)
        others[k] = [k]
        assert others == some and not identity.same_objects(some, others)
    assert count < 2 or not identity.same_objects(some, some[::-1])
