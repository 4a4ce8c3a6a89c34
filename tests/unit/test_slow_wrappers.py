"""What `Grokfast` and `ScheduleFree` do at the edges; their steps are recorded ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from backends import NUMPY, TestBackend
from optimizers_under_test import draw, same


def test_a_skipped_step_leaves_the_mean(backend: TestBackend) -> None:
    """As if its gradient had never been."""
    one, two = (ao.Grokfast(ao.SGD(lr=0.1, nonfinite="skip"), alpha=0.5) for _ in range(2))
    p, q = (backend.tree(draw(0), "float64") for _ in range(2))
    for step in range(3):
        p = one.apply(backend.tree(draw(step + 1), "float64"), p)
        q = two.apply(backend.tree(draw(step + 1), "float64"), q)
        bad = draw(9)
        bad[0][0, 0] = np.inf
        q = two.apply(backend.tree(bad, "float64"), q)
    same(backend.read(q), backend.read(p))
    assert (one.skipped, two.skipped) == (0, 3)
    same(two.get_weights()[2:3], one.get_weights()[2:3])


def test_nothing_has_changed_where_the_step_raises() -> None:
    """The mean too is as it was."""
    opt, p = ao.Grokfast(ao.SGD(lr=0.1, nonfinite="raise")), np.ones(2)
    opt.apply(np.ones(2), p)
    before, weights = p.copy(), opt.get_weights()
    with pytest.raises(ValueError, match="finite"):
        opt.apply(np.array([np.nan, 1.0]), p)
    same([p, *opt.get_weights()], [before, *weights])


def test_a_missing_gradient_leaves_mean_and_parameter() -> None:
    """Those that come later begin with zero."""
    opt, params = ao.Grokfast(ao.SGD(lr=1.0), alpha=0.5, lamb=2.0), [np.zeros(1), np.zeros(1)]
    opt.apply([np.ones(1), None], params)
    opt.apply([None, np.ones(1)], params)
    assert [float(p[0]) for p in params] == [-3.0, -2.0]


@pytest.mark.parametrize("scale", [1.0, 8.0])
def test_scaled_gradients_have_the_mean_of_plain_ones(scale: float) -> None:
    """To the last bit for a power of two; 16-bit parameters have a mean in float32."""
    results = []
    for opt, factor in (
        (ao.Grokfast(ao.Adam(lr=0.1)), 1.0),
        (ao.LossScale(ao.Grokfast(ao.Adam(lr=0.1)), scale=scale, dynamic=False), scale),
    ):
        params = NUMPY.tree(draw(0), "bfloat16")
        for step in range(3):
            opt.apply(NUMPY.tree([factor * g for g in draw(step + 1)], "bfloat16"), params)
        results.append(NUMPY.read(params))
    same(*results)


def test_schedule_free_sgd_is_that_of_the_wrapper(backend: TestBackend, engine: str) -> None:
    """The points and their means, with a warm-up by a schedule and a parameter without gradient."""
    rate = ao.schedules.LinearWarmup(0.25, 4)
    options: dict[str, Any] = {"momentum": 0.75, "r": 1.0, "weight_lr_power": 1.0}
    one = ao.ScheduleFreeSGD(lr=rate, **options)
    two = ao.ScheduleFree(ao.SGD(lr=rate), **options)
    p, q = (backend.tree(draw(0), "float64") for _ in range(2))
    with ao.engine(engine):
        for step in range(5):
            grads = backend.tree(draw(step + 1), "float64")
            p, q = one.apply([*grads[:2], None], p), two.apply([*grads[:2], None], q)
            for a, b in ((p, q), (one.averages(p), two.averages(q))):
                for found, wanted in zip(backend.read(b), backend.read(a), strict=True):
                    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-13)


def test_narrow_parameters_have_a_wide_base() -> None:
    """Steps below half the resolution of bfloat16 add up."""
    opt, params = ao.ScheduleFree(ao.SGD(lr=1e-4)), NUMPY.tree([np.ones(4)], "bfloat16")
    for _ in range(200):
        opt.apply(NUMPY.tree([np.ones(4)], "bfloat16"), params)
    base = opt.get_weights()[4]
    assert base.dtype == np.float32
    np.testing.assert_allclose(base, 0.98, rtol=1e-4)


@pytest.mark.parametrize(
    ("cls", "words"),
    [
        (ao.Grokfast, {"alpha": 1.0}),
        (ao.Grokfast, {"lamb": -1.0}),
        (ao.ScheduleFree, {"momentum": 0.0}),
        (ao.ScheduleFree, {"r": -1.0}),
        (ao.ScheduleFree, {"inner": 3}),
    ],
)
def test_bad_words(cls: Any, words: dict[str, Any]) -> None:
    """Each names the class, the word and what is wanted."""
    with pytest.raises((TypeError, ValueError), match=f"{cls.__name__}.{next(iter(words))} must"):
        cls(**{"inner": "sgd", **words})


def test_averages_before_the_state() -> None:
    """There are none yet."""
    with pytest.raises(ValueError, match="state"):
        ao.ScheduleFree("sgd").averages(np.ones(2))
