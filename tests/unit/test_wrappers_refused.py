"""Wrappers whose optimizer inside, or whose own schedule, refuses: nothing has changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao


class Failing:
    """A schedule that fails once, at some step."""

    def __init__(self, step: int, value: Any) -> None:
        self.step, self.value, self.failed = step, value, False

    def __call__(self, step: int) -> Any:
        """Return the value, but for that one time."""
        if step == self.step and not self.failed:
            self.failed = True
            raise OSError("no number now")
        return self.value


def weights(optimizer: Any) -> list[np.ndarray]:
    return [np.array(x) for x in optimizer.get_weights()]


@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_window_is_not_lost(every: int, dtype: str) -> None:
    """The call that is refused may be made again; the gradients before it count."""
    inner = ao.SGD(lr=Failing(0, 1.0))
    optimizer, params = ao.GradientAccumulation(inner, every=every), np.zeros(3, dtype)
    for call in range(every - 1):
        optimizer.apply(np.full(3, call + 1.0, dtype), params)
    if not optimizer.built:
        optimizer.init(params)
    before = weights(optimizer)
    with pytest.raises(OSError, match="no number"):
        optimizer.apply(np.full(3, 9.0, dtype), params)
    assert all(np.array_equal(a, b) for a, b in zip(before, weights(optimizer), strict=True))
    assert not params.any()
    optimizer.apply(np.full(3, float(every), dtype), params)
    assert np.allclose(params, -(every + 1) / 2)


def test_a_sum_that_is_refused() -> None:
    """A gradient that is not finite is left out of the window."""
    inner = ao.SGD(lr=1.0, nonfinite="raise")
    optimizer, params = ao.GradientAccumulation(inner, every=2), np.zeros(2)
    optimizer.apply(np.array([1.0, 2.0]), params)
    for _ in range(2):
        with pytest.raises(ValueError, match="NaN or infinite"):
            optimizer.apply(np.array([np.nan, 1.0]), params)
    optimizer.apply(np.array([3.0, 4.0]), params)
    assert np.array_equal(params, [-2.0, -3.0])


OWN: dict[str, Callable[[Any], Any]] = {
    "Lookahead.alpha": lambda f: ao.Lookahead(ao.SGD(lr=1.0, momentum=0.5), k=2, alpha=f),
    "LossScale.scale": lambda f: ao.LossScale(ao.SGD(lr=1.0, momentum=0.5), scale=f),
}


@pytest.mark.parametrize("kind", OWN)
@pytest.mark.parametrize("step", [2, 4])
def test_a_wrappers_own_schedule(kind: str, step: int) -> None:
    """It fails before the optimizer inside has stepped, and the steps are those without failure."""
    found, wanted = np.zeros(3), np.zeros(3)
    failing, whole = OWN[kind](Failing(step, 0.5)), OWN[kind](lambda step: 0.5)
    told = 0
    for turn in range(5):
        gradient = np.full(3, turn + 1.0)
        whole.apply(gradient, wanted)
        before = weights(failing)
        try:
            failing.apply(gradient, found)
        except OSError:
            told += 1
            assert all(np.array_equal(a, b) for a, b in zip(before, weights(failing), strict=True))
            failing.apply(gradient, found)
        assert np.array_equal(found, wanted)
    assert told == 1


def test_the_base_says_what_to_make() -> None:
    """No wrapper can be made of what wrappers share."""
    with pytest.raises(TypeError, match=r"an abstract base; use a subclass, such as arrayoptim\.L"):
        type(ao.Lookahead("sgd")).__mro__[1]("sgd")
