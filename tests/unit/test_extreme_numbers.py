"""Every number that an interval allows ends in a step, or in words."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim.config.interval import Interval, nearest_in

NUMBERS = [5e-324, 1e-310, 1e-46, 1e-40, 1e-30, 0.0, 0.5, 1.0, 2.0, 2.0**40, 1e39, 1e200, 1.7e308]


def allowed(hyper: Any) -> list[float]:
    low, high = hyper.interval.low, hyper.interval.high
    edges = [low, high, math.nextafter(low, math.inf), math.nextafter(high, -math.inf)]
    found = [x for x in [*NUMBERS, *edges] if x in hyper.interval and math.isfinite(x)]
    return [int(x) for x in found if x.is_integer()] if hyper.integer else found


@pytest.mark.parametrize("name", ao.names())
@pytest.mark.filterwarnings("ignore")
def test_steps(name: str) -> None:
    """With each number of the class at each extreme."""
    cls, messages = type(ao.get(name)), list[str]()
    for field, hyper in cls.hyperparameters.items():
        if hyper.interval is None or hyper.owner == "Options":
            continue
        for value in allowed(hyper):
            optimizer, params = cls(**{field: value}), np.ones(3, "f4")
            try:
                with ao.engine("array"):
                    for _ in range(2):
                        optimizer.apply(np.ones(3, "f4"), params)
            except ValueError as error:
                messages.append(str(error))
    assert all("finite" in text or "must be" in text for text in messages)


def test_rounding_stays_inside() -> None:
    """A number is rounded to the nearest of a type that the interval allows."""
    with np.errstate(all="raise"):
        assert nearest_in(1e-46, "float32", Interval("(0, inf)")) == 2.0**-149
        assert nearest_in(1e-46, "float32", Interval("[0, inf)")) == 0
        assert nearest_in(1e200, "float32", Interval("(0, inf)")) == float(np.finfo("f4").max)
        assert nearest_in(1 - 1e-12, "float32", Interval("[0, 1)")) == 1 - 2.0**-24


def test_words() -> None:
    """They name the numbers, and nothing has changed."""
    optimizer, params = ao.ScheduleFreeSGD(r=1e200), np.ones(3)
    optimizer.apply(np.ones(3), params)
    before = [np.copy(x) for x in [*optimizer.get_weights(), params]]
    with pytest.raises(ValueError, match=r"ScheduleFreeSGD: found .*r=1e\+200.* at step 1"):
        optimizer.apply(np.ones(3), params)
    after = [*optimizer.get_weights(), params]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    schedule = ao.schedules.ExponentialDecay(0.1, 1, 1e300)
    with pytest.raises(ValueError, match="no finite value at step 9"):
        schedule(9)
