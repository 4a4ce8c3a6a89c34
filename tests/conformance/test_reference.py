"""Every registered optimizer agrees with its reference in plain Python floats."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import arrayoptim as ao
from backends import NUMPY, TestBackend
from optimizers_under_test import NAMES
from reference_checks import STEPS, WIDTH, compare
from references import REFERENCES, Reference

PAIRS = [(name, ref) for name in NAMES for ref in REFERENCES.get(name, [])]
PAIR_IDS = [f"{name}-{ref}" for name, ref in PAIRS]


def rounded(number: float) -> float:
    """Return 0 for a number whose square is not one."""
    return number if abs(number) > 1e-100 else 0.0


magnitudes = st.floats(-20, 20).map(lambda power: 10.0**power)
gradients = st.one_of(
    st.just(0.0),
    st.floats(-3, 3).map(rounded),
    st.builds(lambda size, sign: size * sign, magnitudes, st.sampled_from([-1.0, 1.0])),
)
tables = st.lists(
    st.lists(gradients, min_size=WIDTH, max_size=WIDTH), min_size=STEPS, max_size=STEPS
)
tame = st.integers(0, 1 << 32).map(
    lambda seed: np.random.default_rng(seed).normal(size=(STEPS, WIDTH)).tolist()
)
numbers = st.floats(-100, 100).map(rounded)
starts = st.lists(numbers, min_size=WIDTH, max_size=WIDTH)


def test_every_optimizer_has_a_reference() -> None:
    """A registered optimizer without a reference is an error, and so is the opposite."""
    assert sorted(REFERENCES) == sorted(NAMES)


@pytest.mark.parametrize(("name", "ref"), PAIRS, ids=PAIR_IDS)
def test_agrees(name: str, ref: Reference) -> None:
    """Random hyperparameters and gradients: zeros, tiny and huge ones among them."""

    @given(st.fixed_dictionaries(ref.hyper), starts, tame if ref.tame else tables)
    def run(hyper: dict[str, Any], start: Any, table: Any) -> None:
        compare(name, ref, NUMPY, hyper, start, table)

    run()


@pytest.mark.parametrize(("name", "ref"), PAIRS, ids=PAIR_IDS)
def test_agrees_everywhere(name: str, ref: Reference, backend: TestBackend, engine: str) -> None:
    """A few of the same, elsewhere: another library may compile for every new optimizer."""

    @settings(max_examples=3)
    @given(st.fixed_dictionaries(ref.hyper), starts, tame if ref.tame else tables)
    def run(hyper: dict[str, Any], start: Any, table: Any) -> None:
        with ao.engine(engine):
            compare(name, ref, backend, hyper, start, table)

    run()
