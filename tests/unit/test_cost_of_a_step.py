"""What a step costs on the host besides its arithmetic, in calls."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from call_counts import counted


@pytest.mark.parametrize(
    ("settings", "most"),
    [
        ({}, 95),
        (
            {
                "lr": ao.schedules.CosineDecay(0.1, 1000),
                "clipnorm": 1.0,
                "ema_momentum": 0.9,
            },
            155,
        ),
    ],
    ids=["plain", "clipped, averaged and scheduled"],
)
def test_calls_of_a_step(settings: dict[str, Any], most: int) -> None:
    """A step makes few calls, and no more of them for more arrays."""
    counts = []
    for n in (4, 64):
        optimizer, params = ao.Adam(**settings), [np.ones(5, np.float32) for _ in range(n)]
        for _ in range(4):
            optimizer.apply([np.ones(5, np.float32) for _ in params], params)
        gradients = [np.ones(5, np.float32) for _ in params]
        with counted() as calls:
            optimizer.apply(gradients, params)
        counts.append(calls.count)
    assert counts[0] == counts[1] <= most
