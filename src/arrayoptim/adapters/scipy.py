"""The optimizers as methods of `scipy.optimize.minimize`.

Every registered optimizer is an attribute of this module, under its name::

    scipy.optimize.minimize(fun, x0, jac=jac, method=arrayoptim.scipy.Adam(lr=0.1))
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.optimize import Bounds, OptimizeResult, OptimizeWarning

from ..arrays.trees import flatten
from ..config.other_libraries import spelled
from ..config.registry import names
from ..config.validation import finite
from ..optimizer import Optimizer
from ..search import LBFGS as _LBFGS
from .factories import factory

__all__ = ["Method", "wrap"]

Vector = np.ndarray[Any, np.dtype[np.float64]]

STEP = float(np.finfo(np.float64).eps) ** 0.5
"""Relative step of finite differences, as in `scipy.optimize.approx_fprime`."""

GTOL, FTOL, MAXITER = 1e-5, 1e7 * float(np.finfo(np.float64).eps), 10_000

WORDS = {"ftol": "ftol", "maxcor": "memory", "maxls": "trials"}
"""Options of SciPy's L-BFGS-B, and their names in `LBFGS`."""

MESSAGES = {
    0: "The largest entry of the gradient is at most gtol.",
    1: "Maximum number of iterations has been reached.",
    2: "The function or its gradient is not finite.",
    99: "`callback` raised `StopIteration`.",
}

SPENT = "Maximum number of function evaluations has been exceeded."

FIXED = "All independent variables were fixed by bounds."

LENGTHS = "The number of bounds is not compatible with the length of `x0`."
"""SciPy's messages, which programs may search for, as in other messages below."""


class Method:
    """A method for `scipy.optimize.minimize`, from an optimizer.

    Parameters
    ----------
    optimizer : Optimizer or LBFGS
        The optimizer whose hyperparameters are used; each call steps a new copy without state.

    Notes
    -----
    Supported options of ``minimize``: ``jac`` (a function, or True; by default finite
    differences), ``bounds`` (steps are projected, and differences stay inside), ``callback``,
    ``tol`` and ``options`` with ``gtol`` (1e-5), ``maxiter`` (10,000), ``maxfun`` (unlimited
    function evaluations), ``disp`` and ``return_all``. It stops when the largest entry of the
    gradient, projected onto the bounds, is at most ``gtol``, and returns the best point that it
    has seen. ``tol`` sets ``gtol``. Constraints are refused. If both bounds of an entry are
    equal, no finite difference exists, and its gradient is NaN.

    With `LBFGS`, an iteration is a step accepted by its line search, and bounds are its own. Its
    options include those of SciPy's L-BFGS-B: ``maxcor`` is its ``memory``, ``maxls`` its
    ``trials``, and ``ftol`` is 2.2e-9 unless the option or `LBFGS` sets a value other than 0.
    ``tol`` sets both ``gtol`` and ``ftol``, as in SciPy.
    """

    def __init__(self, optimizer: Optimizer | _LBFGS) -> None:
        if not isinstance(optimizer, Optimizer | _LBFGS):
            raise TypeError(f"found {optimizer!r}, wanted an arrayoptim optimizer")
        self.optimizer = optimizer

    def __repr__(self) -> str:
        """Return the call that makes this method."""
        return f"arrayoptim.scipy.wrap({self.optimizer!r})"

    def __call__(
        self,
        fun: Callable[..., Any],
        x0: Any,
        args: tuple[Any, ...] = (),
        *,
        jac: Callable[..., Any] | None = None,
        bounds: Any = None,
        constraints: Any = (),
        callback: Callable[..., Any] | None = None,
        tol: float | None = None,
        gtol: float | None = None,
        maxiter: float | None = None,
        maxfun: float | None = None,
        disp: bool = False,
        return_all: bool = False,
        **unknown: Any,
    ) -> OptimizeResult:
        """Minimize a function of one vector; `scipy.optimize.minimize` calls this."""
        unknown = {k: v for k, v in unknown.items() if k not in {"hess", "hessp"} or v is not None}
        words = self._words(unknown, tol)
        if unknown:
            warnings.warn(
                f"{self!r} does not use {', '.join(unknown)}", OptimizeWarning, stacklevel=3
            )
        if constraints is not None and np.size(constraints):
            raise ValueError(f"{self!r} takes bounds but no constraints; found {constraints!r}")
        last = MAXITER if maxiter is None else _most(maxiter, "maxiter")
        most = math.inf if maxfun is None else _most(maxfun, "maxfun")
        usual = self.optimizer.native.gtol if isinstance(self.optimizer, _LBFGS) else GTOL
        limit = usual if gtol is None else finite(gtol, "gtol")
        limit = limit if tol is None else finite(tol, "tol")
        low, high = _box(bounds, np.size(x0))
        search = _Search(fun, jac, args, low, high)
        descent = _descent(self.optimizer, low, high, {**words, "gtol": limit})
        x = np.clip(np.array(x0, np.float64).ravel(), low, high)
        result, seen = _minimized(search, descent, x, (limit, last, most), _told(callback))
        if not callable(jac):
            result.jac[low == high] = np.nan
        if return_all:
            result.allvecs = seen
        if disp:
            _display(result)
        return result

    def _words(self, options: dict[str, Any], tol: float | None) -> dict[str, Any]:
        """Remove the options of L-BFGS-B from a call's, and return them by `LBFGS`'s names."""
        if not isinstance(self.optimizer, _LBFGS):
            return {}
        found = {ours: options.pop(word, None) for word, ours in WORDS.items()}
        given = {name: value for name, value in found.items() if value is not None}
        usual = FTOL if tol is None else tol
        return {"ftol": self.optimizer.native.ftol or usual, **given}


def _minimized(
    search: _Search,
    descent: _Steps | _Searches,
    x: Vector,
    ends: tuple[float, float, float],
    told: Callable[[OptimizeResult], bool] | None,
) -> tuple[OptimizeResult, list[Vector]]:
    """Return the result of the steps from a point, and all points."""
    (limit, last, most), low, high = ends, *search.box
    status, nit, best, message = 1, 0, search.at(x), FIXED if np.all(low == high) else ""
    found, seen = best, [x.copy()]

    def reached(point: OptimizeResult, count: int) -> bool:
        seen.append(point.x.copy())
        return told is not None and told(OptimizeResult(point, nit=count))

    while True:
        usable = math.isfinite(found.fun) and np.isfinite(found.jac).all()
        if not usable and not (descent.searches and search.njev > 1):
            status, best = 2, found if np.isnan(found.fun) else best
            break
        # For few entries, several times as fast as `clip`.
        still = np.abs(x - np.minimum(np.maximum(x - found.jac, low), high))
        if usable and still.max(initial=0.0) <= limit:
            status, best = 0, found
            if descent.searches and search.njev > 1:
                nit += 1  # the line search does not count this one
                reached(found, nit)
            break
        if nit >= last:
            break
        if search.nfev >= most:
            message = SPENT
            break
        x, before = descent.step(found, x), nit
        nit = descent.taken
        # A line search accepts an earlier point, and looks for the next one.
        over = descent.searches and nit > before and reached(best, nit)
        if descent.ended:
            status, message = descent.ended
            break
        if descent.searches and nit >= last and not over:
            break
        if not over:
            found = search.at(x)
            best = found if found.fun <= best.fun else best
            over = not descent.searches and reached(found, nit)
        if over:
            status = 99
            break
    result = OptimizeResult(
        best,
        nit=nit,
        nfev=search.nfev,
        njev=search.njev,
        status=status,
        success=status == 0,
        message=message or MESSAGES[status],
    )
    return result, seen


class _Steps:
    """The steps of an optimizer, each followed by a projection into the box."""

    searches = False
    ended: tuple[int, str] | None = None

    def __init__(self, optimizer: Optimizer, low: Vector, high: Vector) -> None:
        self._optimizer, self._low, self._high = optimizer, low, high
        self.taken = 0

    def step(self, found: OptimizeResult, x: Vector) -> Vector:
        """Return the next point."""
        self.taken += 1
        moved: Vector = self._optimizer.apply(found.jac.copy(), x)
        return np.clip(moved, self._low, self._high)


class _Searches:
    """The points that a line search evaluates, only some of which it accepts."""

    searches = True

    def __init__(self, optimizer: _LBFGS) -> None:
        self._optimizer = optimizer
        self._structure = flatten(np.zeros(0))[1]

    @property
    def taken(self) -> int:
        """Steps taken."""
        return int(self._optimizer.taken)

    @property
    def ended(self) -> tuple[int, str] | None:
        """Status and message; None while the search continues."""
        reason, message = self._optimizer._over()
        return (2 * (reason == "stuck"), message) if reason else None

    def step(self, found: OptimizeResult, x: Vector) -> Vector:
        """Return the next point."""
        # Both arrays were made in this module, so they need no checks.
        if not self._optimizer.built:
            self._optimizer.init(x)
        moved: Any
        (moved,) = self._optimizer._step([found.jac], [x], self._structure, value=found.fun)
        return np.asarray(moved)


def _descent(
    optimizer: Any, low: Vector, high: Vector, words: dict[str, Any]
) -> _Steps | _Searches:
    config = optimizer.get_config()
    if not isinstance(optimizer, _LBFGS):
        return _Steps(type(optimizer).from_config(config), low, high)
    ends = {"lower": low, "upper": high} if np.isfinite([low, high]).any() else {}
    return _Searches(_LBFGS(**{**config, **ends, **words}))


def _display(result: OptimizeResult) -> None:
    """Print the result; warn about failures, as SciPy's own methods do."""
    if not result.success:
        warnings.warn(result.message, OptimizeWarning, stacklevel=4)
    print(f"{result.message} f = {result.fun:g} after {result.nit} iterations")  # noqa: T201


def _most(count: Any, name: str) -> float:
    """Return a limit on a count, which need not be an integer, as in SciPy."""
    if isinstance(count, bool) or not count >= 0:
        raise ValueError(f"{name}: found {count!r}, wanted a number of at least 0")
    return float(count)


class _Search:
    """A function with its gradient, and how often each was evaluated."""

    def __init__(
        self,
        fun: Callable[..., Any],
        jac: Callable[..., Any] | None,
        args: tuple[Any, ...],
        low: Vector,
        high: Vector,
    ) -> None:
        self._fun, self._jac, self._args = fun, jac, args
        self.box = self._low, self._high = low, high
        self.nfev = self.njev = 0

    def _value(self, x: Vector) -> float:
        self.nfev += 1
        value = np.asarray(self._fun(x.copy(), *self._args))
        if value.size != 1:
            raise ValueError(
                f"fun: found an array of {value.shape}, wanted a number. The user-provided "
                "objective function must return a scalar value."
            )
        return float(value.item())

    def at(self, x: Vector) -> OptimizeResult:
        """Return a point with value and gradient."""
        value = self._value(x)
        self.njev += 1
        if callable(self._jac):
            gradient = np.asarray(self._jac(x.copy(), *self._args), np.float64).ravel()
        else:
            gradient = self._differences(x, value)
        if gradient.shape != x.shape:
            raise ValueError(f"jac returned an array of shape {gradient.shape}, wanted {x.shape}")
        return OptimizeResult(x=x.copy(), fun=value, jac=gradient)

    def _differences(self, x: Vector, value: float) -> Vector:
        """Return the gradient by finite differences, which point inwards near bounds."""
        step = np.where(x + STEP == x, STEP * x, STEP)
        ends = x + step
        ends = np.where(self._inside(ends), ends, x - step)
        far = np.where(self._high - x >= x - self._low, self._high, self._low)
        ends = np.where(self._inside(ends), ends, far)
        gradient = np.zeros_like(x)
        for i in np.flatnonzero(self._low < self._high):
            there = x.copy()
            there[i] = ends[i]
            gradient[i] = (self._value(there) - value) / (ends[i] - x[i])
        return gradient

    def _inside(self, x: Vector) -> Any:
        return (self._low <= x) & (x <= self._high)


def _box(bounds: Any, size: int) -> tuple[Vector, Vector]:
    """Return the lower and upper bound of each entry."""
    if bounds is None:
        bounds = (-np.inf, np.inf)
        low, high = (np.full(size, x) for x in bounds)
    elif isinstance(bounds, Bounds):
        ends = [np.asarray(x, float) for x in (bounds.lb, bounds.ub)]
        if any(x.shape not in ((), (1,), (size,)) for x in ends):
            found = " and ".join(str(x.size) for x in ends)
            raise ValueError(
                f"bounds: found {found} numbers, wanted one or {size} of each. {LENGTHS}"
            )
        low, high = (np.broadcast_to(x, (size,)) for x in ends)
    else:
        pairs = [tuple(pair) for pair in bounds]
        if len(pairs) != size or any(len(pair) != 2 for pair in pairs):
            raise ValueError(
                f"bounds: found {bounds!r}, wanted {size} pairs (low, high). {LENGTHS}"
            )
        low = np.array([-np.inf if a is None else a for a, _ in pairs], np.float64)
        high = np.array([np.inf if b is None else b for _, b in pairs], np.float64)
    if np.any(low > high):
        k = int(np.argmax(low > high))
        raise ValueError(
            f"bounds: found low={low[k]:g} and high={high[k]:g} for x0[{k}]. An upper bound is "
            "less than the corresponding lower bound."
        )
    return low, high


def _told(callback: Callable[..., Any] | None) -> Callable[[OptimizeResult], bool] | None:
    """Return the callback as a function of a result that says whether to stop."""
    if callback is None:
        return None
    whole = list(inspect.signature(callback).parameters) == ["intermediate_result"]

    def told(result: OptimizeResult) -> bool:
        try:
            if whole:
                callback(intermediate_result=result)
            else:
                callback(np.copy(result.x))
        except StopIteration:
            return True
        return False

    return told


def wrap(optimizer: Optimizer | _LBFGS) -> Method:
    """Return a method for `scipy.optimize.minimize` made from a copy of an optimizer."""
    return Method(optimizer)


def __getattr__(name: str) -> Callable[..., Method]:
    """Return a factory of methods for the optimizer with that name."""
    if name in names() or name == "LBFGS":
        return factory(name, Method)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{spelled(name, 'scipy')}")


def __dir__() -> Sequence[str]:
    """Return all names, including those of the optimizers."""
    return sorted({*globals(), *names(), "LBFGS"})
