"""Non-finite gradients, and weights that do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from backends import NUMPY, TestBackend
from optimizers_under_test import draw, make, same, snapshot, together, unchanged

DTYPE = "float32"
BAD = [float("nan"), float("inf"), float("-inf")]


def trained(name: str, backend: TestBackend, **kwargs: Any) -> tuple[Any, list[Any]]:
    """Return an optimizer after one step, and its parameters."""
    opt = make(name, **kwargs)
    return opt, opt.apply(backend.tree(draw(2), DTYPE), backend.tree(draw(1), DTYPE))


def poisoned(backend: TestBackend, bad: float) -> list[Any]:
    """Return gradients with one bad entry."""
    grads = draw(3)
    grads[2][1] = bad
    return backend.tree(grads, DTYPE)


@pytest.mark.parametrize("bad", BAD)
def test_by_default_arithmetic_has_it(name: str, backend: TestBackend, bad: float) -> None:
    """A NaN poisons its own entry, and no other one unless the rule totals all entries."""
    opt, params = trained(name, backend)
    params = backend.read(opt.apply(poisoned(backend, bad), params))
    finite = [np.isfinite(p) for p in params]
    assert together(name) or finite[2][[0, 2, 3]].all()
    assert together(name) or all(finite[i].all() for i in (0, 1))
    if np.isnan(bad):
        assert not finite[2][1]
    assert opt.iterations == 2


@pytest.mark.parametrize("bad", BAD)
def test_raise(name: str, backend: TestBackend, bad: float) -> None:
    """The step is refused and nothing has changed; the next one works."""
    opt, params = trained(name, backend, nonfinite="raise", clipnorm=1.0)
    before, values = snapshot(opt), backend.read(params)
    with pytest.raises(ValueError, match="NaN or infinite"):
        opt.apply(poisoned(backend, bad), params)
    same(backend.read(params), values)
    unchanged(opt, before)
    opt.apply(backend.tree(draw(4), DTYPE), params)
    assert opt.iterations == 2


@pytest.mark.parametrize("bad", BAD)
def test_skip(name: str, backend: TestBackend, bad: float) -> None:
    """The step is left out whole and counted: what follows is as if it had not been tried."""
    opt, params = trained(name, backend, nonfinite="skip", clipvalue=0.5)
    weights, values = opt.get_weights(), backend.read(params)
    params = opt.apply(poisoned(backend, bad), params)
    same(backend.read(params), values)
    same(opt.get_weights(), weights)
    assert (opt.skipped, opt.iterations) == (1, 1)
    params = opt.apply(backend.tree(draw(4), DTYPE), params)
    other, twins = trained(name, backend, clipvalue=0.5)
    same(backend.read(params), backend.read(other.apply(backend.tree(draw(4), DTYPE), twins)))
    assert (opt.skipped, opt.iterations) == (1, 2)


def test_the_count_of_skipped_steps_is_kept(name: str, tmp_path: Path) -> None:
    """A file holds it, and `reset` forgets it."""
    opt, params = trained(name, NUMPY, nonfinite="skip")
    opt.apply(poisoned(NUMPY, float("nan")), params)
    opt.save_weights(tmp_path / "skipped.h5")
    again = make(name, nonfinite="skip")
    again.init(params)
    again.load_weights(tmp_path / "skipped.h5")
    assert (again.skipped, again.iterations) == (1, 1)
    again.reset()
    assert (again.skipped, again.iterations) == (0, 0)


@pytest.mark.parametrize("mode", ["raise", "skip"])
def test_finite_gradients_pass(name: str, backend: TestBackend, mode: str) -> None:
    """Large but finite entries are no reason to stop."""
    opt, params = trained(name, backend, nonfinite=mode)
    grads = [np.full_like(g, 3e38) for g in draw(3)]
    opt.apply(backend.tree(grads, DTYPE), params)
    assert (opt.skipped, opt.iterations) == (0, 2)


EXTREMES = [("float32", 1e30), ("float32", 1e-30), ("float64", 1e200), ("float64", 1e-210)]


@pytest.mark.parametrize(("dtype", "size"), EXTREMES)
def test_the_norm_neither_overflows_nor_vanishes(
    backend: TestBackend, dtype: str, size: float
) -> None:
    """Keras's norm of the large ones is infinite, and its step is zero."""
    grads = [np.full((3,), size), np.full((1,), -size)]
    params = backend.tree([np.zeros(3), np.zeros(1)], dtype)
    bound = min(size, 1.0)
    found = make("SGD", lr=1.0, clipnorm=bound).apply(backend.tree(grads, dtype), params)
    for p, wanted in zip(backend.read(found), (-0.5 * bound, 0.5 * bound), strict=True):
        np.testing.assert_allclose(p, wanted, rtol=1e-6)


def _short(weights: list[Any]) -> list[Any]:
    return weights[:-1]


def _long(weights: list[Any]) -> list[Any]:
    return [*weights, weights[-1]]


def _none(weights: list[Any]) -> list[Any]:
    return []


def _shape(weights: list[Any]) -> list[Any]:
    return [*weights[:-1], weights[-1].reshape(-1, 1)]


def _broadcast(weights: list[Any]) -> list[Any]:
    return [*weights[:-1], np.float32(1.0)]


def _complex(weights: list[Any]) -> list[Any]:
    return [*weights[:-1], weights[-1].astype("complex64")]


def _words(weights: list[Any]) -> list[Any]:
    return [*weights[:-1], weights[-1].astype(str)]


def _objects(weights: list[Any]) -> list[Any]:
    return [*weights[:-1], weights[-1].astype(object)]


def _half_a_step(weights: list[Any]) -> list[Any]:
    return [np.float64(1.5), *weights[1:]]


def _no_step(weights: list[Any]) -> list[Any]:
    return [np.float64("nan"), *weights[1:]]


def _before_the_start(weights: list[Any]) -> list[Any]:
    return [np.int64(-1), *weights[1:]]


def _many_steps(weights: list[Any]) -> list[Any]:
    return [np.array([1, 1]), *weights[1:]]


SPOILERS = [
    _short, _long, _none, _shape, _broadcast, _complex, _words, _objects,
    _half_a_step, _no_step, _before_the_start, _many_steps,
]  # fmt: skip


@pytest.mark.parametrize("spoil", SPOILERS)
def test_set_weights_that_do_not_fit(name: str, backend: TestBackend, spoil: Any) -> None:
    """A wrong count, shape or kind: an error, and nothing has changed."""
    opt, params = trained(name, backend)
    other, _ = trained(name, backend)
    other.apply(backend.tree(draw(9), DTYPE), backend.tree(draw(1), DTYPE))
    before = snapshot(opt)
    with pytest.raises(ValueError, match=name):
        opt.set_weights(spoil(other.get_weights()))
    unchanged(opt, before)
    opt.apply(backend.tree(draw(4), DTYPE), params)


NO_WEIGHTS = [
    *([{"momentum": 1.0}], ["one"], [None], [np.array([{}], object)], [[[1.0], [1.0, 2.0]]]),
    *({"iterations": 1}, "one", [True]),
]


@pytest.mark.parametrize("given", NO_WEIGHTS, ids=str)
@pytest.mark.parametrize("kind", ["Adam", "RMSprop", "SGD"])
def test_set_weights_before_the_parameters(kind: str, given: Any) -> None:
    """What no list of weights can be is refused at once; a list that waits goes on waiting."""
    opt, other = ao.get(kind), ao.get(kind)
    other.apply([np.ones(3)], [np.ones(3)])
    opt.set_weights(other.get_weights())
    with pytest.raises(ValueError, match=rf"{kind} weights\[0\]: found .*wanted a numeric array"):
        opt.set_weights(given)
    same(opt.get_weights(), other.get_weights())
    opt.init([np.ones(3)])
    same(opt.get_weights(), other.get_weights())


@pytest.mark.parametrize("count", [-1, 0.5, float("nan"), 1j, [1, 1]])
def test_no_count_before_the_parameters(count: Any) -> None:
    """Where every list begins with the step counter it is checked at once."""
    with pytest.raises(ValueError, match=r"weights\[0\], iterations: found .*wanted an integer"):
        ao.Adam().set_weights([count, np.ones(3), np.ones(3)])


def test_weights_are_copies(name: str, backend: TestBackend) -> None:
    """Writing into the lists that went in or came out does not reach the optimizer."""
    opt, _ = trained(name, backend)
    wanted = [np.array(weight) for weight in opt.get_weights()]
    for weight in opt.get_weights():
        weight[...] = 7
    same(opt.get_weights(), wanted)
    given = [np.array(weight) for weight in wanted]
    opt.set_weights(given)
    for weight in given:
        weight[...] = 7
    same(opt.get_weights(), wanted)


def test_many_differences_are_not_all_told() -> None:
    """A message stays readable where thousands of parameters differ; the report has them all."""
    few, many = {str(k): np.ones(1) for k in range(4)}, {str(k): np.ones(1) for k in range(5000)}
    opt = ao.SGD(momentum=0.9)
    opt.init(few)
    with pytest.raises(ValueError, match=r"added: 10 .*and 4,984 more\. Use") as caught:
        opt.apply(many, many)
    assert len(str(caught.value)) < 1000
    state = ao.SGD(momentum=0.9).init_state(many)
    report = opt.load_state(state, few, strict=False)
    assert len(report.unexpected) == 4996 and len(report.faults) < 1000
