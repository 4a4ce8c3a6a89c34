"""Arrays whose entries share memory, with one another or with the state, are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided, sliding_window_view

import arrayoptim as ao
from arrayoptim.arrays.memory import folded

BASE = np.arange(64.0)
FOLDED: dict[str, np.ndarray[Any, Any]] = {
    "windows": sliding_window_view(np.ones(100), 5, writeable=True),
    "windows of a matrix": sliding_window_view(np.ones((9, 9)), (3, 3), writeable=True),
    "broadcast": as_strided(BASE, (4, 3), (8, 0)),
    "half an entry": as_strided(BASE, (4,), (4,)),
    "axes that meet": as_strided(BASE, (3, 3), (16, 8)),
    "backwards": sliding_window_view(np.ones(100), 5, writeable=True)[::-1, ::-1],
}
APART: dict[str, np.ndarray[Any, Any]] = {
    "whole": BASE,
    "every other": BASE[::2],
    "transposed": BASE.reshape(8, 8).T,
    "backwards": BASE.reshape(4, 4, 4)[::-1, :, ::-2],
    "empty": np.zeros((3, 0)),
    "one": as_strided(BASE, (1, 1), (0, 0)),
    "interlaced": as_strided(BASE, (2, 2), (16, 24)),
}


@pytest.mark.parametrize("kind", FOLDED)
def test_refused(kind: str) -> None:
    """An entry would be stepped several times."""
    array = FOLDED[kind]
    assert folded(array)
    before = array.copy()
    with pytest.raises(ValueError, match="entries of parameter 'w' share memory; pass a copy"):
        ao.SGD(lr=1.0).apply({"w": np.ones(array.shape)}, {"w": array})
    assert np.array_equal(array, before)


@pytest.mark.parametrize("kind", APART)
def test_stepped(kind: str) -> None:
    """Each entry has memory of its own."""
    array = APART[kind]
    assert not folded(array)
    before = array.copy()
    ao.SGD(lr=1.0).apply(np.ones(array.shape), array)
    assert np.array_equal(array, before - 1)
    array += 1


@pytest.mark.parametrize("name", ["Adam", "SGD", "Muon"])
def test_a_parameter_that_is_state(name: str) -> None:
    """The optimizer's own arrays are no parameters."""
    optimizer = ao.get({"class_name": name, "config": {}})
    if name == "SGD":
        optimizer = ao.SGD(momentum=0.9)
    params = [np.ones((2, 3)), np.ones((2, 3))]
    optimizer.apply([np.ones((2, 3))] * 2, params)
    state = next(x for x in optimizer.weights if getattr(x, "shape", ()) == (2, 3))
    before = [np.copy(x) for x in optimizer.weights]
    with pytest.raises(ValueError, match="'1' shares memory with an array of the optimizer's own"):
        optimizer.apply([np.ones((2, 3))] * 2, [params[0], state])
    assert all(np.array_equal(a, b) for a, b in zip(before, optimizer.weights, strict=True))
    optimizer.apply([np.ones((2, 3))] * 2, params)
