"""Copies of optimizers share no state."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from optimizers_under_test import make

WAYS: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda optimizer: pickle.loads(pickle.dumps(optimizer)),
}

WRAPPED = {
    "lookahead": lambda: ao.Lookahead(ao.Adam(lr=0.1), 2),
    "accumulation": lambda: ao.GradientAccumulation(ao.Adam(lr=0.1), 2),
    "group": lambda: ao.Adam(lr=0.1, groups=[ao.group("*", optimizer=ao.Nadam())]),
    "keeping": lambda: ao.SGD(lr=ao.schedules.Plateau(0.1)),
}


def goes_on_alone(optimizer: Any, way: str) -> None:
    """Step an optimizer and its copy in turn; both go the same way."""
    params = np.linspace(-1.0, 1.0, 6).reshape(2, 3)
    for _ in range(3):
        optimizer.apply(np.cos(params), params)
    other, twin = WAYS[way](optimizer), params.copy()
    count = optimizer.iterations
    for _ in range(3):
        optimizer.apply(np.cos(params), params)
    assert other.iterations == count
    for _ in range(3):
        other.apply(np.cos(twin), twin)
    assert np.array_equal(params, twin)
    assert other.iterations == optimizer.iterations
    other.lr = 0.0
    assert optimizer.lr != 0.0


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_goes_on_alone(name: str, way: str) -> None:
    """Steps of the one leave the other alone."""
    goes_on_alone(make(name), way)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("which", WRAPPED)
def test_a_copy_of_what_holds_others(which: str, way: str) -> None:
    """What is inside of a wrapper or a group is copied with it."""
    goes_on_alone(WRAPPED[which](), way)


def test_a_copy_before_the_first_step() -> None:
    """It has no state to share, nor a lock."""
    first = ao.Adam(lr=0.5)
    second = copy.copy(first)
    second.apply(np.ones(2), np.ones(2))
    assert (first.built, second.iterations) == (False, 1)
    assert second.get_config() == first.get_config()
