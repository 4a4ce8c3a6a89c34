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


@pytest.mark.parametrize("units", ["last", "first", "tensor"])
def test_clipping_by_units_in_stacks_has_the_bits_of_one_by_one(
    units: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the shape; bounds of groups and gradients of another type are kept apart."""
    shapes = [(4, 3), (5,), (4, 3), (), (2, 3, 4), (5,), (0, 2), (2, 3, 4), (4, 3), (0, 2), ()]
    groups = [ao.group("8", agc=0.02), ao.group("4", agc=None)]

    def moved(kind: str) -> list[Any]:
        params, grads = draw(1, shapes, kind), draw(2, shapes, kind)
        grads[2] = grads[2].astype("float64" if kind == "float32" else kind)
        optimizer = ao.SGD(lr=1.0, agc=0.1, agc_units=units, groups=groups)
        optimizer.apply(grads, params)
        return [*params, *grads]

    for kind in ("float32", "float64", "complex64"):
        together = moved(kind)
        with monkeypatch.context() as patch:
            patch.setattr(_stacks, "LARGEST", -1)
            alone = moved(kind)
        for x, y in zip(together, alone, strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("options", [{}, {"clipnorm": 0.5}])
def test_the_calls_of_clipping_by_units_on_a_gpu(options: dict[str, float]) -> None:
    """A further array takes some calls, those of the emulation included; by itself thousands."""

    def calls(many: int) -> int:
        optimizer, shapes = ao.SGD(lr=0.1, agc=0.1, **options), [(20, 10)] * many
        params = [cupy.asarray(x) for x in draw(1, shapes, "float32")]
        for seed in range(2):
            grads = [cupy.asarray(g) for g in draw(2 + seed, shapes, "float32")]
            with counted() as found:
                optimizer.apply(grads, params)
        return found.count

    with emulated("cupy_on_host"):
        import cupy

        each = (calls(40) - calls(20)) / 20
    assert each < 400
