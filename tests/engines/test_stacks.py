"""Matrices of equal shape, stepped as one stack: more of them, and larger ones, on a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim.engines import Step
from arrayoptim.engines.array import stacks as _stacks
from arrayoptim.engines.array.stacks import stacks
from arrayoptim.numerics.slots import Layout
from backends import emulated
from call_counts import counted
from engine_cases import draw
from optimizers_under_test import make


def split(arrays: list[Any], name: str = "Muon") -> list[list[int]]:
    """Return how the places of some arrays are parted."""
    step = Step(Layout(make(name).rule), {"float32": {}}, None, range(len(arrays)))
    return stacks(step, arrays, arrays, range(len(arrays)))


def test_how_large_they_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the host small ones are stacked; on a GPU all that a stack has room for."""
    shapes = [(16, 16), (100, 120), (16, 16), (100, 120), (100, 120), (120, 100)]
    here = draw(1, shapes, "float32")
    assert split(here) == [[0, 2], [1], [3], [4], [5]]
    with emulated("cupy_on_host"):
        import cupy

        there = [cupy.asarray(x) for x in here]
        assert split(there) == [[0, 2], [1, 3, 4], [5]]
        monkeypatch.setattr(_stacks, "MOST_ON_GPU", 2 * 100 * 120)
        assert split(there) == [[0, 2], [1, 3], [4], [5]]
        monkeypatch.setattr(_stacks, "LARGEST_ON_GPU", 100)
        assert split(there) == [[k] for k in range(6)]
        assert split(there, "Adam") == [[k] for k in range(6)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Muon", "Shampoo", "SOAP"])
def test_the_calls_of_a_step_on_a_gpu(name: str) -> None:
    """Eight matrices take hardly more than two, and are stepped as one by one."""
    with emulated("cupy_on_host"):
        import cupy

        counts = []
        for many in (2, 8):
            start = draw(1, [(100, 90)] * many, "float32")
            optimizer, params = make(name), [cupy.asarray(x) for x in start]
            for seed in range(2):
                grads = [cupy.asarray(g) for g in draw(5 + seed, [(100, 90)] * many, "float32")]
                with counted() as calls:
                    optimizer.apply(grads, params)
            counts.append(calls.count)
        together = [p.get() for p in params]
    assert counts[1] < 2.5 * counts[0]
    if name == "SOAP":  # its basis is not unique
        return
    for k, p in enumerate(start):
        alone, single = make(name), p.copy()
        with ao.engine("array"):
            for seed in range(2):
                alone.apply([draw(5 + seed, [(100, 90)] * 8, "float32")[k]], [single])
        np.testing.assert_allclose(together[k], single, rtol=1e-3, atol=1e-4)
