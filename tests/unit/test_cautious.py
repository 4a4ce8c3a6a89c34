"""Caution: any elementwise rule, masked where its step goes against the gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from backends import NUMPY, TestBackend
from optimizers_under_test import CASES, draw, make, same

BLOCKS = [(40, 900), (70_001,), (7,), (), (0, 3)]
"""More than a block of the sum, parts of one, one entry and none."""
REFUSED = {"ASGD", "Ftrl", "ScheduleFreeSGD", "ScheduleFreeAdamW"}
"""Those whose rule does not add a step to the parameter as it was."""


def serves(name: str, kwargs: dict[str, Any]) -> bool:
    return make(name, **kwargs).rule.kind == "elementwise" and name not in REFUSED


SERVED = [case for case in CASES if serves(*case)]


def by_hand(before: np.ndarray, after: np.ndarray, g: np.ndarray) -> np.ndarray:
    """Return the parameter after a step that was masked afterwards, from the paper."""
    step = before - after
    mask = np.where(step * g > 0, 1.0, 0.0)
    return before - step * mask / max(mask.mean(), 1e-3)


@pytest.mark.parametrize(("name", "kwargs"), SERVED, ids=lambda value: str(value))
def test_steps_are_masked_and_scaled(
    name: str, kwargs: dict[str, Any], backend: TestBackend
) -> None:
    """Each step is that of the plain optimizer from the same state, masked by hand."""
    kwargs = {**kwargs, "weight_decay": 0.0}
    opt, plain = make(name, cautious=True, **kwargs), make(name, **kwargs)

    def stepped(optimizer: Any, params: Any, grads: Any) -> Any:
        with ao.engine("array"):
            return optimizer.apply(backend.tree(grads, "float64"), params)

    params = backend.tree(draw(0), "float64")
    for step in range(1, 5):
        before, grads = backend.read(params), draw(step)
        plain.init(backend.tree(before, "float64"))
        if opt.built:
            plain.set_weights(opt.get_weights())
        after = backend.read(stepped(plain, backend.tree(before, "float64"), grads))
        params = stepped(opt, params, grads)
        for found, *row in zip(backend.read(params), before, after, grads, strict=True):
            np.testing.assert_allclose(found, by_hand(*row), rtol=1e-12, atol=1e-12)
        same(opt.get_weights(), plain.get_weights())


ALL = {"clipnorm": 0.5, "l2": 0.1, "weight_decay": 0.1, "exclude": "0", "ema_momentum": 0.9}


@pytest.mark.parametrize(
    ("name", "dtype", "options"),
    [
        ("Adam", "float32", {}),
        ("Lion", "bfloat16", ALL),
        ("Adam", "float64", {"groups": [ao.group("1", lr=0.01)]}),
        ("SGD", "float32", {"state_dtype": "int8", "stochastic_rounding": True}),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else "-".join(value),
)
def test_engines_agree(name: str, options: dict[str, Any], dtype: str) -> None:
    """To the last bit, on one thread and on two, with a parameter that has no gradient."""
    start, results = draw(0, BLOCKS), []
    for engine, threads in (("array", 1), ("cpu", 1), ("cpu", 2)):
        opt = make(name, cautious=True, threads=threads, **options)
        params = NUMPY.tree(start, dtype)
        with ao.engine(engine):
            for step in range(3):
                grads = NUMPY.tree(draw(9 + step, BLOCKS), dtype)
                opt.apply([*grads[:2], None, *grads[3:]], params)
        results.append([*params, *opt.get_weights()])
    same(results[1], results[0])
    same(results[2], results[0])


def test_decay_is_not_masked() -> None:
    """An entry whose step is left out still decays."""
    opt, p = ao.SGD(lr=0.5, momentum=0.9, weight_decay=0.1, cautious=True), np.ones(2)
    opt.apply(np.array([1.0, 1.0]), p)
    before = p.copy()
    opt.apply(np.array([-0.1, 1.0]), p)
    assert p[0] == before[0] - 0.05 * before[0]
    assert p[1] < before[1] - 0.05 * before[1]


@pytest.mark.parametrize("name", [*sorted(REFUSED), "LAMB"])
def test_what_cannot_be_masked_is_refused(name: str) -> None:
    """When it is made or set, also for a group."""
    with pytest.raises(ValueError, match=r"cautious=True: the rule .* leave it out"):
        make(name, cautious=True)
    with pytest.raises(ValueError, match="cautious=True"):
        ao.Adam(cautious=True, groups=[ao.group("head/*", optimizer=make(name))])
    opt, p = make(name), np.ones(2)
    opt.apply(np.ones(2), p)
    before = p.copy()
    opt.cautious = True
    with pytest.raises(ValueError, match="cautious=True"):
        opt.apply(np.ones(2), p)
    assert np.array_equal(p, before)


def test_it_can_be_set_between_steps() -> None:
    """The slots are the same with and without it."""
    opt, again = ao.Adam(lr=0.1, cautious=True), ao.Adam(lr=0.1)
    p, q = np.ones(4), np.ones(4)
    opt.cautious = False
    for step in range(3):
        opt.apply(draw(step, [(4,)])[0], p)
        again.apply(draw(step, [(4,)])[0], q)
    assert np.array_equal(p, q)
    assert again.get_config() | {"cautious": True} == ao.Adam(lr=0.1, cautious=True).get_config()
