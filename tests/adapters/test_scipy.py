"""The optimizers as methods of `scipy.optimize.minimize`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from optimizers_under_test import cls_of, draw, make, same

optimize = pytest.importorskip("scipy.optimize")
rosen, rosen_der = optimize.rosen, optimize.rosen_der
START = [-1.2, 1.0]


def bowl(x: Any, scale: float = 1.0) -> float:
    return float(scale * np.sum((x - 0.5) ** 2))


def bowl_der(x: Any, scale: float = 1.0) -> Any:
    return 2.0 * scale * (x - 0.5)


def test_rosenbrock() -> None:
    """To the minimum, with the gradient given, both in one, or by differences."""
    method = ao.scipy.SGD(lr=1e-3, momentum=0.97, nesterov=True)
    exact = optimize.minimize(rosen, START, jac=rosen_der, method=method, tol=1e-6)
    assert exact.success and exact.status == 0 and exact.nit == exact.njev - 1
    np.testing.assert_allclose(exact.x, 1.0, atol=1e-5)
    assert exact.fun == rosen(exact.x) and np.max(np.abs(exact.jac)) <= 1e-6
    both = optimize.minimize(
        lambda x: (rosen(x), rosen_der(x)), START, jac=True, method=method, tol=1e-6
    )
    same([both.x], [exact.x])
    found = optimize.minimize(rosen, START, method=method, options={"gtol": 1e-4})
    assert found.success and found.nfev > 2 * found.nit and found.njev == found.nit + 1
    np.testing.assert_allclose(found.x, 1.0, atol=3e-3)


def test_every_step_is_the_optimizers(name: str) -> None:
    """The path is that of a plain loop, and the optimizer that was given keeps no state."""
    optimizer, path = make(name), []
    method = ao.scipy.wrap(optimizer)
    start = np.concatenate([a.ravel() for a in draw(1)])
    result = optimize.minimize(
        bowl, start, (3.0,), jac=bowl_der, method=method, callback=path.append,
        options={"maxiter": 4, "gtol": 0.0},
    )  # fmt: skip
    assert (result.status, result.success, result.nit) == (1, False, 4)
    plain, x = make(name), start.copy()
    for seen in path:
        plain.apply(bowl_der(x, 3.0), x)
        same([seen], [x])
    assert not optimizer.built
    assert ao.scipy.__getattr__(name)().optimizer.get_config() == cls_of(name)().get_config()


@pytest.mark.parametrize(
    "bounds", [[(None, 0.25), (0.75, None)], optimize.Bounds([-np.inf, 0.75], [0.25, np.inf])]
)
def test_bounds(bounds: Any) -> None:
    """Each point lies within, and the projected gradient says when it is over."""
    seen: list[Any] = []
    result = optimize.minimize(
        bowl, [9.0, -9.0], jac=bowl_der, method=ao.scipy.SGD(lr=0.1), bounds=bounds,
        callback=seen.append,
    )  # fmt: skip
    assert result.success
    np.testing.assert_array_equal(result.x, [0.25, 0.75])
    assert all(x[0] <= 0.25 and x[1] >= 0.75 for x in seen)


@pytest.mark.parametrize(
    ("low", "high", "start"),
    [
        (0.0, 1.0, 0.5),
        (-1.0, 0.0, -0.5),
        (1e9, 1e9 + 1.0, 1e9 + 0.5),
        (-1e-9, 1e-9, 0.0),
        (0.3, 0.3, 0.3),
        (-np.inf, 1e9, 1e9),
    ],
)
@pytest.mark.parametrize("slope", [-1.0, 1.0])
def test_differences_stay_within_bounds(
    low: float, high: float, start: float, slope: float
) -> None:
    """Where the function need not be defined outside, on both sides and between close ones."""

    def line(x: Any) -> float:
        assert np.all((low <= x) & (x <= high))
        return float(slope * np.sum(x - low if low > -np.inf else x))

    result = optimize.minimize(
        line, [start] * 2, bounds=[(low, high)] * 2, method=ao.scipy.SGD(lr=0.05),
        options={"maxiter": 100},
    )  # fmt: skip
    assert result.success == (low > -np.inf or slope < 0)
    if result.success:
        np.testing.assert_allclose(result.x, low if slope > 0 else high, atol=1e-5)
    np.testing.assert_allclose(result.jac, np.nan if low == high else slope, rtol=1e-6)


def test_differences_are_those_of_scipy() -> None:
    """Where no bound is near, to the last bit; large entries have steps in proportion."""
    for x in ([0.3, -2.0], [1e9, 1.0], [-1e9, 0.0]):
        found = optimize.minimize(
            bowl, x, method=ao.scipy.SGD(), options={"maxiter": 0}, bounds=[(None, 2e9)] * 2
        )
        same([found.jac], [optimize.approx_fprime(np.array(x), bowl)])
        assert found.nfev == 3


def test_callbacks() -> None:
    """Both forms of scipy's, and StopIteration ends the search."""
    seen = []

    def whole(intermediate_result: Any) -> None:
        seen.append(intermediate_result.fun)
        if len(seen) == 3:
            raise StopIteration

    result = optimize.minimize(
        bowl, [2.0], jac=bowl_der, method=ao.scipy.SGD(lr=0.1), callback=whole
    )
    assert (result.nit, result.status, result.success) == (3, 99, False)
    assert seen == sorted(seen, reverse=True) and result.fun == bowl(result.x)


def test_divergence_gives_the_best_point(capsys: pytest.CaptureFixture[str]) -> None:
    """A step size that is too large ends with a message, not with NaN."""
    warned = pytest.warns(optimize.OptimizeWarning, match="not finite")
    with np.errstate(over="ignore", invalid="ignore"), warned:
        result = optimize.minimize(
            bowl, [2.0], jac=bowl_der, method=ao.scipy.SGD(lr=1e3), options={"disp": True}
        )
    assert (result.status, result.fun) == (2, bowl(np.array([2.0])))
    assert "not finite" in capsys.readouterr().out


def test_options_of_none_are_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """As they are for scipy's own methods."""
    monkeypatch.setattr("arrayoptim.adapters.scipy.MAXITER", 7)
    method = ao.scipy.SGD(lr=1e-9)
    for options in ({}, {"maxiter": None, "gtol": None}):
        found = optimize.minimize(bowl, [2.0], jac=bowl_der, method=method, options=options)
        assert (found.nit, found.status) == (7, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"maxiter": -1}, "maxiter: found -1, wanted a number of at least 0"),
        ({"maxiter": True}, "maxiter: found True, wanted a number of at least 0"),
        ({"gtol": "a"}, "gtol: found 'a', wanted a finite number"),
        ({"gtol": float("nan")}, "gtol: found nan, wanted a finite number"),
        ({"tol": "a"}, "tol: found 'a', wanted a finite number"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    """They are refused before the function is called."""

    def never(x: Any) -> float:
        raise AssertionError

    with pytest.raises(ValueError, match=message):
        optimize.minimize(never, [1.0], method=ao.scipy.Adam(), options=options)


def test_bad_input() -> None:
    """What cannot be done is said."""
    method = ao.scipy.Adam()
    with pytest.raises(TypeError, match="found 'adam'"):
        ao.scipy.wrap("adam")
    with pytest.raises(TypeError, match="'lrr', did you mean 'lr'"):
        ao.scipy.Adam(lrr=1.0)
    with pytest.raises(AttributeError, match="Adamm"):
        _ = ao.scipy.Adamm
    with pytest.raises(ValueError, match="no constraints"):
        optimize.minimize(bowl, [1.0], method=method, constraints={"type": "eq", "fun": bowl})
    with pytest.raises(ValueError, match=r"2 pairs \(low, high\)"):
        optimize.minimize(bowl, [1.0, 2.0], method=method, bounds=[(0, 1)])
    with pytest.raises(ValueError, match=r"low=2 and high=1 for x0\[0\]"):
        optimize.minimize(bowl, [1.0], method=method, bounds=[(2, 1)])
    with pytest.raises(ValueError, match=r"jac returned an array of shape \(2,\), wanted \(1,\)"):
        optimize.minimize(bowl, [1.0], method=method, jac=lambda x: np.ones(2))
    with pytest.warns(optimize.OptimizeWarning, match="does not use eps"):
        optimize.minimize(bowl, [0.5], jac=bowl_der, method=method, options={"eps": 1.0})
    assert "scipy.wrap(Adam(" in repr(method)


@pytest.mark.parametrize("interface", ["point", "keyword", "object"])
def test_a_callback_that_stops(interface: str) -> None:
    """It ends with the result that as many iterations give, the point just told of included."""
    calls = []

    def count(*_: Any) -> None:
        calls.append(1)
        if len(calls) == 5:
            raise StopIteration

    class Told:
        def __call__(self, intermediate_result: Any) -> None:
            assert intermediate_result.fun == optimize.rosen(intermediate_result.x)
            count()

    def keyword(*, intermediate_result: Any) -> None:
        Told()(intermediate_result)

    callback = {"point": count, "keyword": keyword, "object": Told()}[interface]
    words = {"jac": optimize.rosen_der, "method": ao.scipy.Adam(lr=0.01)}
    found = optimize.minimize(optimize.rosen, [1.1] * 5, callback=callback, **words)
    wanted = optimize.minimize(optimize.rosen, [1.1] * 5, options={"maxiter": 5}, **words)
    assert found.message.startswith("`callback` raised `StopIteration`")
    assert (found.status, found.success) == (99, False)
    assert found.nit == wanted.nit == 5
    assert found.fun == wanted.fun
    assert np.array_equal(found.x, wanted.x)


def test_options_as_scipy_takes_them() -> None:
    """A limit that is no integer, every point, and how often a gradient was wanted."""
    method = ao.scipy.SGD(lr=1e-4)
    found = optimize.minimize(
        optimize.rosen,
        [0.5, 0.5],
        method=method,
        options={"maxiter": 7.5, "return_all": True},
    )
    assert found.nit == 8
    assert len(found.allvecs) == found.nit + 1
    assert found.njev == found.nit + 1
    assert found.nfev == 3 * found.njev
    for bounds in (optimize.Bounds([0, 0, 0], 1), optimize.Bounds(0, [1, 1, 1])):
        with pytest.raises(ValueError, match="not compatible with the length of `x0`"):
            optimize.minimize(optimize.rosen, [0.5, 0.5], method=method, bounds=bounds)


def test_what_has_no_value() -> None:
    """A result that says where the function was NaN, and no number where it is an array."""
    method = ao.scipy.SGD(lr=0.1)
    found = optimize.minimize(
        lambda x: 0.0 if x[0] == 0 else np.nan, [0.0], jac=np.ones_like, method=method
    )
    assert (found.status, found.success) == (2, False)
    assert np.isnan(found.fun) and found.x == [-0.1]
    with pytest.raises(ValueError, match=r"found an array of \(2,\), wanted a number"):
        optimize.minimize(lambda x: x, [1.0, 1.0], method=method)


def test_displayed(capsys: pytest.CaptureFixture[str]) -> None:
    """With a warning where it was left off, and only if that is wanted."""
    words = {"jac": rosen_der, "method": ao.scipy.SGD(lr=1e-4)}
    with pytest.warns(optimize.OptimizeWarning, match="Maximum number of iterations"):
        optimize.minimize(rosen, START, options={"disp": True, "maxiter": 3}, **words)
    assert "after 3 iterations" in capsys.readouterr().out
    optimize.minimize(rosen, START, options={"maxiter": 3}, **words)
    optimize.minimize(bowl, [0.5], jac=bowl_der, method=words["method"], options={"disp": True})
    assert capsys.readouterr().out.endswith("after 0 iterations\n")


@pytest.mark.parametrize("bounds", [None, [(-2.0, 0.5)] * 10])
def test_lbfgs_beside_scipys(bounds: Any) -> None:
    """To the same minimum in about as many evaluations, with iterations counted as SciPy does."""
    x, told = np.full(10, -1.2), []
    theirs = optimize.minimize(rosen, x, jac=rosen_der, method="L-BFGS-B", bounds=bounds)
    ours = optimize.minimize(
        rosen, x, jac=rosen_der, method=ao.scipy.LBFGS(), bounds=bounds, callback=told.append
    )
    assert ours.success and ours.nit == len(told) < ours.nfev < 2.5 * theirs.nfev
    np.testing.assert_allclose(ours.x, theirs.x, atol=1e-3)
    assert ours.fun <= theirs.fun + 1e-8
    same([told[-1]], [ours.x])
    few = optimize.minimize(
        rosen, x, jac=rosen_der, method=ao.scipy.LBFGS(), options={"maxiter": 5}
    )
    assert few.nit == 5 and few.status == 1 and few.fun == rosen(few.x)


def test_lbfgs_takes_the_options_of_scipys() -> None:
    """Each does what it does there, and `tol` is both tolerances."""

    def found(**options: Any) -> Any:
        words = {"jac": rosen_der, "method": ao.scipy.LBFGS(), "constraints": None}
        return optimize.minimize(rosen, np.full(10, -1.2), options=options, **words)

    falls = [found(ftol=ftol).fun for ftol in (1e-1, 1e-4, 1e-7, 0.0)]
    assert falls == sorted(falls, reverse=True) and len({*falls}) == 4
    assert found(maxcor=2).nfev != found(maxcor=10).nfev == found().nfev
    few = found(maxfun=7)
    assert (few.nfev, few.status, few.success) == (7, 1, False) and "evaluations" in few.message
    words = {"jac": rosen_der, "method": ao.scipy.LBFGS()}
    loose = optimize.minimize(rosen, np.full(10, -1.2), tol=1e-3, **words)
    assert loose.success and loose.nit < found().nit
    with pytest.warns(optimize.OptimizeWarning, match="does not use ftol"):
        optimize.minimize(bowl, [0.5], jac=bowl_der, method=ao.scipy.SGD(), options={"ftol": 0.1})


@pytest.mark.parametrize("scale", [1.0, 1e30, 1e50])
def test_the_units_of_a_loss_do_not_matter(scale: float) -> None:
    """However steep it is, the curvature is learned, and no step leads far away."""
    tried: list[float] = []

    def loss(x: Any) -> float:
        tried.append(float(x[0]))
        return float(scale * (x[0] - 1) ** 2)

    found = optimize.minimize(loss, [-1.0], jac=lambda x: scale * (x - 1), method=ao.scipy.LBFGS())
    assert found.success and found.nit <= 3 and max(np.abs(tried)) < 1.1
    np.testing.assert_allclose(tried[1], 0.0, atol=1e-12)


def test_a_callback_stops_where_maxiter_would() -> None:
    """With `LBFGS` too, whose next trial is not evaluated then."""
    told: list[Any] = []

    def callback(intermediate_result: Any) -> None:
        told.append(intermediate_result)
        if len(told) == 5:
            raise StopIteration

    words = {"jac": rosen_der, "method": ao.scipy.LBFGS()}
    stopped = optimize.minimize(rosen, [1.1] * 5, callback=callback, **words)
    limited = optimize.minimize(rosen, [1.1] * 5, options={"maxiter": 5}, **words)
    assert (stopped.fun, stopped.nfev, stopped.nit) == (limited.fun, limited.nfev, limited.nit)
    assert stopped.fun == told[-1].fun == rosen(told[-1].x)


def test_all_fixed_by_bounds() -> None:
    """There is one evaluation, and the words are SciPy's."""
    for method in (ao.scipy.LBFGS(), ao.scipy.Adam()):
        found = optimize.minimize(bowl, (1.0, 3.0), bounds=[(1, 1), (2, 2)], method=method)
        assert found.success and found.nfev == 1 and found.x.tolist() == [1.0, 2.0]
        assert np.isnan(found.jac).all()
        assert found.message == "All independent variables were fixed by bounds."
