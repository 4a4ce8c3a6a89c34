"""L-BFGS on the arrays of every library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .._typing import Array, Scalar, Tree
from ..arrays.derivatives import value_and_gradients
from ..arrays.libraries import backend_of
from ..arrays.trees import Structure, flatten
from ..config.other_libraries import refuse_parameters
from ..config.validation import finite, whole
from ..engines.mode import mode
from ..foreign.base import Foreign
from ..foreign.records import WHOLE, Entry
from ..step import checks
from .boxes import boxed
from .choice import way
from .configuration import Described
from .packing import Packing, first, packing, pair_of
from .pure import ALL, Pure
from .searches import Box, Search
from .state_layout import LEVEL, STATIONARY, STUCK, Settings
from .wolfe import Bounds

ENDINGS = {
    STATIONARY: "the gradient is small enough",
    LEVEL: "the loss hardly falls any more",
    STUCK: "no step along the gradient lowers the loss",
}


class LBFGS(Described, Pure, Foreign):
    """Limited-memory BFGS with a strong Wolfe line search.

    Each step is one evaluation of the loss: the parameters are moved to the next trial point.
    `best` moves them back to the best accepted point.

    Parameters
    ----------
    memory : int in [1, inf)
        Number of pairs of steps and gradient changes to keep.
    gtol : float in [0, inf)
        A search ends when no entry of the projected gradient is larger.
    ftol : float in [0, inf)
        A search ends when an accepted step reduces the loss by less than this fraction.
    lower, upper : float or tree of arrays, optional
        Bounds of all entries, or of each.
    batched : bool
        Whether the first axis of every parameter counts problems, which are searched simultaneously
        and independently.
    decrease, curvature : float in (0, 1)
        The constants of the strong Wolfe conditions, the first smaller than the second.
    trials : int in [1, inf)
        Maximum number of evaluations of a line search after its first.

    Raises
    ------
    ValueError
        If a number is outside its interval.

    Notes
    -----
    Parameters must be real, and all of one library and on one device. State and arithmetic are
    float64 if a parameter is, otherwise float32: ``2 * memory + 5`` numbers for each parameter. The
    loss must be the same function at every step: no dropout, no other batch of data.

    With bounds, variables that the gradient holds at a bound are left out of the direction, and the
    search follows the path projected onto the box (D. Bertsekas, SIAM Journal on Control and
    Optimization 20 (1982)).

    References
    ----------
    D. Liu and J. Nocedal, "On the limited memory BFGS method for large scale optimization",
    Mathematical Programming 45 (1989).

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> def rosenbrock(x):
    ...     value = 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2
    ...     slope = 200 * (x[1] - x[0] ** 2)
    ...     return value, np.array([-2 * x[0] * slope - 2 * (1 - x[0]), slope])
    >>> found = ao.minimize(rosenbrock, np.array([-1.2, 1.0]), ao.LBFGS())
    >>> found.params.round(4), found.reason
    (array([1., 1.]), 'converged')
    """

    pure = True
    _searches = True

    def __init__(
        self,
        memory: int = 10,
        gtol: float = 1e-5,
        ftol: float = 0.0,
        lower: Any = None,
        upper: Any = None,
        batched: bool = False,
        decrease: float = 1e-4,
        curvature: float = 0.9,
        trials: int = 25,
    ) -> None:
        refuse_parameters(memory, type(self), "memory=10")
        memory, trials = whole(memory, "LBFGS.memory", 1), whole(trials, "LBFGS.trials", 1)
        for name, value in (("gtol", gtol), ("ftol", ftol)):
            if finite(value, f"LBFGS.{name}") < 0:
                raise ValueError(f"LBFGS.{name}: found {value!r}, wanted a number in [0, inf)")
        if not 0 < decrease < curvature < 1:
            raise ValueError(
                f"LBFGS: found decrease={decrease!r} and curvature={curvature!r}, wanted "
                "0 < decrease < curvature < 1"
            )
        bounds = Bounds(float(decrease), float(curvature), trials)
        self._settings = Settings(float(gtol), float(ftol), bounds=bounds)
        super().__init__(self._settings)
        self._memory, self._box = memory, (lower, upper)
        self._batched = bool(batched)
        self._renew()

    def _renew(self) -> None:
        self._search: Search | None = None
        self._packing: Packing | None = None
        self._limits: Box = None
        self._asked = ""

    # ---- stepping

    def apply(self, grads: Tree, params: Tree, value: Any = None) -> Tree:
        """Process loss and gradient at the parameters, and move these to the next trial point.

        Parameters
        ----------
        grads, params : tree of arrays
            Gradients, none of which may be None, and parameters.
        value : float, or array of shape (problems,)
            The loss at the parameters.

        Returns
        -------
        tree of arrays
            As from `Optimizer.apply`.

        Raises
        ------
        TypeError
            Without the loss.
        ValueError
            If a gradient is None, or arrays do not match. Nothing has been changed.
        """
        if value is None:
            raise TypeError(
                "LBFGS.apply: found no value, wanted the loss at the parameters too, as a line "
                "search compares it: apply(grads, params, value=loss), or minimize(loss, params)"
            )
        return self._apply(grads, params, value=value)

    def _extra(self, loss: Any, value: Scalar, gradients: Tree, params: Tree) -> dict[str, Any]:
        return {"value": value}

    def _build(self, leaves: Sequence[Array | None], structure: Structure) -> None:
        described = checks.describe(leaves, structure)
        self._packing = packed = packing(leaves, described, structure, self._batched)
        with packed.backend.guard(first(leaves)):
            self._limits = boxed(self._box, packed, leaves, structure)
            made = packed, self._memory, self._settings, self._limits
            self._asked, self._search = mode(), way(leaves)(*made, leaves)

    def _advance(
        self,
        gradients: Sequence[Array | None],
        leaves: Sequence[Array | None],
        structure: Structure,
        **extra: Any,
    ) -> list[Array | None]:
        checks.every_gradient(gradients, leaves, structure, ALL)
        assert self._packing is not None
        with self._packing.backend.guard(first(leaves)):
            return self._going(leaves).tell(extra["value"], gradients, leaves)

    def _going(self, leaves: Sequence[Array | None]) -> Search:
        """Return the search, moved to another engine if one is requested now."""
        assert self._search is not None and self._packing is not None
        if self._asked == mode():
            return self._search
        self._asked, wanted = mode(), way(leaves)
        if type(self._search) is not wanted:
            values = {name: self._read(x) for name, x in self._search.named().items()}
            made = self._packing, self._memory, self._settings, self._limits
            self._search = wanted(*made, leaves)
            self._search.fill(values)
        return self._search

    def best(self, params: Tree) -> Tree:
        """Move the parameters to the best accepted point.

        Parameters
        ----------
        params : tree of arrays
            The parameters; updated in place if writeable.

        Returns
        -------
        tree of arrays
            As from `apply`. A further step starts with an evaluation there, which only leads back
            to the pending trial point.

        Raises
        ------
        ValueError
            If there is no state yet, or the parameters do not match it.
        """
        leaves, structure = flatten(params)
        with self._lock:
            if self._leaves is None:
                raise ValueError("LBFGS has no state yet; take a step first")
            self._ready(leaves, structure)
            assert self._packing is not None
            with self._packing.backend.guard(first(leaves)):
                new = self._going(leaves).best(leaves)
        written = all(a is b for a, b in zip(new, leaves, strict=True))
        return params if written else structure.build(new)

    _best = best

    def solve(self, loss: Any, params: Tree, evaluations: int = 15_000) -> Tree:
        """Minimize a loss, or a batch of losses, until every search has ended.

        Parameters
        ----------
        loss : callable
            A function of the parameters as for `minimize`; for a batch, one that returns the pair
            ``(values, gradients)``, with a value for each problem.
        params : tree of arrays
            The initial parameters; updated in place if writeable.
        evaluations : int in [0, inf)
            Maximum number of evaluations.

        Returns
        -------
        tree of arrays
            The best points.
        """
        self.init(params)
        leaves, structure = flatten(params)
        differentiate = pair_of if self._batched else value_and_gradients
        for _ in range(evaluations):
            if self._over()[0]:
                break
            value, gradients, _, other = differentiate(loss, params)
            checks.same_structure(other, structure)
            checks.gradients(gradients, leaves, structure)
            with self._lock:
                # No new checks: these are the checked parameters, or results of them.
                new = self._step(gradients, leaves, structure, value=value)
            if not all(a is b for a, b in zip(new, leaves, strict=True)):
                leaves, params = new, structure.build(new)
        return self.best(params)

    @property
    def values(self) -> np.ndarray:
        """The loss at the best point, per problem in a batch; NaN before the first step."""
        return self._number("value", np.nan)

    @property
    def converged(self) -> np.ndarray:
        """Whether a search has ended at a small gradient or a flat loss, per problem."""
        stage = self._number("stage", 0.0)
        return np.asarray((stage == STATIONARY) | (stage == LEVEL))

    @property
    def taken(self) -> np.ndarray:
        """Number of accepted points, per problem; `iterations` counts evaluations."""
        return self._number("taken", 0.0).astype(np.int64)

    def _number(self, name: str, missing: float) -> np.ndarray:
        if self._search is None:
            return np.asarray(missing)
        return self._read(self._search.number(name))

    def _over(self) -> tuple[str, str]:
        stage = 0.0 if self._search is None else self._search.number("stage")
        stage = stage if isinstance(stage, float | np.ndarray) else self._read(stage)
        running = stage < STATIONARY
        if running if isinstance(running, bool) else running.any():
            return "", ""
        found = [text for code, text in ENDINGS.items() if np.any(stage == code)]
        reason = "stuck" if np.any(stage == STUCK) else "converged"
        return reason, f"In {int(np.max(self.taken))} steps: {', or '.join(found)}."

    # ---- state

    def _native_state(self) -> list[Entry]:
        assert self._search is not None
        return [Entry(name, WHOLE.path, x) for name, x in self._search.named().items()]

    def _read(self, array: Any) -> np.ndarray:
        plain = isinstance(array, int | float)
        return np.array(array, np.float64) if plain else backend_of(array).to_host(array)

    def _fill(self, values: Mapping[tuple[str, str], np.ndarray]) -> None:
        assert self._search is not None
        self._search.fill({name: value for (name, _), value in values.items()})
