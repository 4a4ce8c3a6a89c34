"""Weight decay that is corrected by the schedule, or spares what the step moves away from zero."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from backends import NUMPY, TestBackend
from optimizers_under_test import CASES, draw, make, same

BLOCKS = [(40, 900), (70_001,), (7,), (), (0, 3)]


def serves(name: str, kwargs: dict[str, Any]) -> bool:
    """Whether the stage decays, by the same share everywhere."""
    decays = "wd" in make(name, **kwargs).rule.coefficients
    return not decays and (name, kwargs.get("preset")) != ("Muon", "keras3")


SERVED = [case for case in CASES if serves(*case)]


@pytest.mark.parametrize(("name", "kwargs"), SERVED, ids=lambda value: str(value))
def test_what_goes_to_zero_decays(name: str, kwargs: dict[str, Any]) -> None:
    """Each step is that of the plain optimizer from the same state, decayed by hand."""
    kwargs = {**kwargs, "lr": 0.1, "weight_decay": 0.0}
    opt, plain = (
        make(name, cautious_decay=True, **{**kwargs, "weight_decay": 0.5}),
        make(name, **kwargs),
    )
    params = NUMPY.tree(draw(0), "float64")
    with ao.engine("array"):
        for step in range(1, 5):
            before, grads = NUMPY.read(params), draw(step)
            plain.init(NUMPY.tree(before, "float64"))
            if opt.built:
                plain.set_weights(opt.get_weights())
            after = plain.apply(NUMPY.tree(grads, "float64"), NUMPY.tree(before, "float64"))
            params = opt.apply(NUMPY.tree(grads, "float64"), params)
            for found, p, q in zip(NUMPY.read(params), before, NUMPY.read(after), strict=True):
                wanted = np.where((p - q) * p >= 0, q - 0.1 * opt_share(opt, step) * p, q)
                np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)
            same(opt.get_weights(), plain.get_weights())


def opt_share(opt: Any, step: int) -> float:
    """Return the share that decays, with a learning rate that decays too."""
    decay = opt.hyperparameters.get("decay")
    return 0.5 / (1.0 + (opt.decay if decay else 0.0) * (step - 1))


ALL = {"clipnorm": 0.5, "l2": 0.1, "exclude": "0", "ema_momentum": 0.9}
GROUPS = {"groups": [ao.group("1", cautious_decay=False), ao.group("2", weight_decay=0.3)]}
OPTIONS: list[tuple[str, str, dict[str, Any]]] = [
    ("Adam", "float32", {}),
    ("Lion", "bfloat16", ALL),
    ("Adafactor", "float32", {}),
    ("Adam", "float64", {"cautious": True}),
    ("Adam", "float64", GROUPS),
    ("SGD", "float32", {"state_dtype": "int8", "constraint": ao.constraints.Box(-0.5, 0.5)}),
]


@pytest.mark.parametrize(("name", "dtype", "options"), OPTIONS, ids=lambda value: str(value)[:12])
def test_engines_agree(name: str, options: dict[str, Any], dtype: str) -> None:
    """To the last bit, on one thread and on two."""
    start, results = draw(0, BLOCKS), []
    for engine, threads in (("array", 1), ("cpu", 1), ("cpu", 2)):
        opt = make(name, weight_decay=0.5, cautious_decay=True, threads=threads, **options)
        params = NUMPY.tree(start, dtype)
        with ao.engine(engine):
            for step in range(3):
                opt.apply(NUMPY.tree(draw(9 + step, BLOCKS), dtype), params)
        results.append([*params, *opt.get_weights()])
    same(results[1], results[0])
    same(results[2], results[0])


def test_excluded_paths_are_spared(backend: TestBackend, engine: str) -> None:
    """As from any other decay."""
    params, zeros = (backend.tree([np.full(2, x)] * 2, "float64") for x in (1.0, 0.0))
    opt = ao.SGD(lr=0.5, weight_decay=0.5, cautious_decay=True, exclude="1")
    with ao.engine(engine):
        params = opt.apply(zeros, params)
    np.testing.assert_array_equal(np.concatenate(backend.read(params)), [0.75, 0.75, 1.0, 1.0])


def test_lazy_rows_decay_alike() -> None:
    """Rows by themselves decay as they do in the whole, and others stay."""
    rows = ao.Rows(np.array([1]), np.array([[1.0, -1.0]]), (3, 2))
    p = np.ones((3, 2))
    ao.SGD(lr=0.1, weight_decay=0.5, cautious_decay=True, sparse="lazy").apply(rows, p)
    np.testing.assert_allclose(p, [[1.0, 1.0], [0.85, 1.1], [1.0, 1.0]], rtol=1e-15)


def test_corrected_decay_goes_with_the_square_of_the_rate(
    backend: TestBackend, engine: str
) -> None:
    """As in AdamC; a group may have plain decay."""
    rate = ao.schedules.PiecewiseConstantDecay([0], [0.5, 0.25])
    group = ao.group("1", corrected_decay=False, peak_lr=None)
    opt = ao.Adam(lr=rate, weight_decay=0.5, peak_lr=0.5, corrected_decay=True, groups=[group])
    params, zeros = (backend.tree([np.full(2, x)] * 2, "float64") for x in (1.0, 0.0))
    with ao.engine(engine):
        for first, second in ((0.75, 0.75), (0.75 * 0.9375, 0.75 * 0.875)):
            params = opt.apply(zeros, params)
            found = np.concatenate(backend.read(params))
            np.testing.assert_allclose(found, [first, first, second, second], rtol=1e-15)
    again = ao.get(ao.serialize(opt))
    assert again.get_config() == opt.get_config()
    one, two = np.ones(2), np.ones(2)
    words = {"lr": 0.5, "weight_decay": 0.5}
    ao.ScheduleFreeSGD(**words, peak_lr=1.0, corrected_decay=True).apply(np.ones(2), one)
    ao.ScheduleFreeSGD(lr=0.5, weight_decay=0.25).apply(np.ones(2), two)
    same([one], [two])


@pytest.mark.parametrize("name", ["LAMB", "LARS", "ScheduleFreeAdamW", "StableAdamW"])
def test_rules_that_decay_refuse_caution(name: str) -> None:
    """When it is made, and before a step where it is set later; in a group they decay as ever."""
    with pytest.raises(ValueError, match=r"cautious_decay=True: the rule .* decays weights itself"):
        make(name, cautious_decay=True)
    ao.Adam(cautious_decay=True, groups=[ao.group("head/*", optimizer=make(name))])
    opt, p = make(name), np.ones(2)
    opt.apply(np.ones(2), p)
    before = p.copy()
    opt.cautious_decay = True
    with pytest.raises(ValueError, match="cautious_decay=True"):
        opt.apply(np.ones(2), p)
    assert np.array_equal(p, before)


@pytest.mark.parametrize("words", [{"corrected_decay": True}, {"cautious_decay": 1}])
def test_bad_words(words: dict[str, Any]) -> None:
    """The correction needs the peak; an option is True or False."""
    with pytest.raises((TypeError, ValueError), match=next(iter(words))):
        ao.AdamW(**words)
    with pytest.raises((TypeError, ValueError), match=next(iter(words))):
        ao.AdamW(groups=[ao.group("bias", **words)])
