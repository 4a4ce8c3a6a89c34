"""L-BFGS on the arrays of every library."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._typing import Array, Scalar, Tree
from ..arrays.libraries import backend_of
from ..arrays.trees import Structure, flatten
from ..config.elsewhere import refuse_parameters
from ..config.given import finite
from ..foreign.base import Foreign
from ..foreign.records import WHOLE, Entry
from ..step import checks
from .machine import ENDS, LEVEL, NUMBERS, STATIONARY, STUCK, Machine, State
from .packing import Packing, packing, pair_of
from .vocabulary import Batch, Plain
from .wolfe import Bounds

if TYPE_CHECKING:
    from typing_extensions import Self

SCALARS = (*NUMBERS, *ENDS, "parked")
ALL = "wanted all of them, as one step of LBFGS moves all; leave out the parameter, or give zeros"
ENDINGS = {
    STATIONARY: "the gradient is small enough",
    LEVEL: "the loss hardly falls any more",
    STUCK: "no step along the gradient lowers the loss",
}


class LBFGS(Foreign):
    """Limited-memory BFGS with a line search for the strong Wolfe conditions.

    Each step is one evaluation of the loss: the parameters are moved to the next point to be
    tried. `best` moves them back to the best point that has been taken.

    Parameters
    ----------
    memory : int in [1, inf)
        Pairs of steps and changes of the gradient that are kept.
    gtol : float in [0, inf)
        The largest entry of the gradient, projected where bounds hold, at which a search ends.
    ftol : float in [0, inf)
        The share of the loss by which a taken step must lower it for the search to go on.
    lower, upper : float or tree of arrays, optional
        Bounds of every entry, or of each.
    batched : bool
        Whether the first axis of every parameter counts problems, which are searched at once and
        independently.
    decrease, curvature : float in (0, 1)
        The constants of the strong Wolfe conditions, the first smaller than the second.
    trials : int in [1, inf)
        The most evaluations of a line search after its first.

    Raises
    ------
    ValueError
        If a number is outside its interval.

    Notes
    -----
    Parameters are real, of one library and on one device. State and arithmetic are float64 where a
    parameter is, else float32: ``2 * memory + 5`` numbers for each parameter. The loss must be the
    same function at every step: no dropout, no other batch of data.

    With bounds the variables that the gradient holds at one are left out of the direction, and the
    search follows the path that is projected into the box (D. Bertsekas, SIAM Journal on Control
    and Optimization 20 (1982)).

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
        counts: dict[str, Any] = {"memory": memory, "trials": trials}
        for name, count in counts.items():
            if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
                raise ValueError(f"LBFGS.{name}: found {count!r}, wanted a whole number above 0")
        for name, value in (("gtol", gtol), ("ftol", ftol)):
            if finite(value, f"LBFGS.{name}") < 0:
                raise ValueError(f"LBFGS.{name}: found {value!r}, wanted a number in [0, inf)")
        if not 0 < decrease < curvature < 1:
            raise ValueError(
                f"LBFGS: found decrease={decrease!r} and curvature={curvature!r}, wanted "
                "0 < decrease < curvature < 1"
            )
        bounds = Bounds(float(decrease), float(curvature), int(trials))
        super().__init__(Machine(int(memory), float(gtol), float(ftol), bounds=bounds))
        self._box = (lower, upper)
        self._batched = bool(batched)
        self._renew()

    def _renew(self) -> None:
        self._state_of: State = {}
        self._packing: Packing | None = None

    # ---- stepping

    def apply(self, grads: Tree, params: Tree, value: Any = None) -> Tree:
        """Take up loss and gradient at the parameters, and move these to the next point to try.

        Parameters
        ----------
        grads, params : tree of arrays
            Gradients, all of them, and parameters.
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
            If a gradient is None, or arrays do not fit each other. Nothing has changed then.
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
        self._packing = packing(leaves, described, structure, self._batched)
        like = next(x for x in leaves if x is not None)
        with self._packing.backend.guard(like):
            self._limits = self._boxed(self._packing, leaves, structure)
            ns = self._vocabulary(self._packing, leaves)
            self._state_of = self._begun(ns, self._packing, leaves, self._limits)

    def _boxed(
        self, packed: Packing, leaves: Sequence[Array | None], structure: Structure
    ) -> tuple[Array, Array] | None:
        if all(bound is None for bound in self._box):
            return None
        ends = zip(self._box, (-np.inf, np.inf), strict=True)
        low, high = (
            packed.limits(other if bound is None else bound, leaves, structure)
            for bound, other in ends
        )
        if not packed.backend.traced(low) and bool(packed.backend.xp.any(low > high)):
            raise ValueError("LBFGS: a lower bound lies above the upper one")
        return low, high

    def _begun(self, ns: Plain, packed: Packing, leaves: Sequence[Array | None], box: Any) -> State:
        xp = packed.backend.xp
        given, parked = packed.vector(leaves), ns.constant(0.0)
        point = given
        if box is not None:
            # Of a point outside of the box the first evaluation tells nothing.
            point = xp.minimum(xp.maximum(given, box[0]), box[1])
            parked = ns.number(xp.max(xp.astype(point != given, point.dtype), axis=-1))
        return {**self._native.begin(ns, xp, point), "parked": parked}

    def _vocabulary(self, packed: Packing, leaves: Sequence[Array | None]) -> Plain:
        like = next(x for x in leaves if x is not None)
        if self._batched:
            return Batch(packed.backend, packed.batch, packed.dtype, like)
        return Plain()

    def _advance(
        self,
        gradients: Sequence[Array | None],
        leaves: Sequence[Array | None],
        structure: Structure,
        **extra: Any,
    ) -> list[Array | None]:
        packed = self._packing
        assert packed is not None
        checks.every_gradient(gradients, leaves, structure, ALL)
        like = next(x for x in leaves if x is not None)
        with packed.backend.guard(like):
            ns = self._vocabulary(packed, leaves)
            with ns.quiet():
                value = _values(ns, packed, extra["value"], like)
                vector = packed.vector(gradients)
                state = self._told(ns, packed, self._state_of, value, vector, self._limits)
                trial = self._native.trial(ns, packed.backend.xp, state, self._limits)
            new = packed.written(trial, leaves)
        self._state_of = state
        return new

    def _told(
        self, ns: Plain, packed: Packing, state: State, value: Any, vector: Array, box: Any
    ) -> State:
        """Return the state after an evaluation, which after `best` tells nothing new."""
        held, parked = {k: x for k, x in state.items() if k != "parked"}, state["parked"] > 0
        if isinstance(ns, Batch) or not parked:
            new = self._native.tell(ns, packed.backend.xp, held, value, vector, box)
            if not ns.nowhere(parked):
                new = {
                    name: ns.choose(parked, held[name], x)
                    if getattr(x, "ndim", 0) > len(ns.batch)
                    else ns.where(parked, held[name], x)
                    for name, x in new.items()
                }
        else:
            new = held
        return {**new, "parked": ns.constant(0.0)}

    def best(self, params: Tree) -> Tree:
        """Move the parameters to the best point that has been taken.

        Parameters
        ----------
        params : tree of arrays
            The parameters; written where they can be.

        Returns
        -------
        tree of arrays
            As from `apply`. A further step begins with an evaluation there, which only leads back
            to the point that was to be tried.

        Raises
        ------
        ValueError
            If there is no state yet, or the parameters do not fit it.
        """
        leaves, structure = flatten(params)
        with self._lock:
            if self._leaves is None:
                raise ValueError("LBFGS has no state yet; take a step first")
            self._ready(leaves, structure)
            packed = self._packing
            assert packed is not None
            with packed.backend.guard(next(x for x in leaves if x is not None)):
                new = packed.written(self._state_of["point"], leaves)
                ns = self._vocabulary(packed, leaves)
                self._state_of = {**self._state_of, "parked": ns.constant(1.0)}
        written = all(a is b for a, b in zip(new, leaves, strict=True))
        return params if written else structure.build(new)

    _best = best

    def solve(self, loss: Any, params: Tree, evaluations: int = 15_000) -> Tree:
        """Minimize a loss, or those of a batch, until every search has ended.

        Parameters
        ----------
        loss : callable
            A function of the parameters as for `minimize`; for a batch one that gives the pair
            ``(values, gradients)``, with a value for each problem.
        params : tree of arrays
            Where to begin; written where they can be.
        evaluations : int in [0, inf)
            The most evaluations.

        Returns
        -------
        tree of arrays
            The best points.
        """
        self.init(params)
        for _ in range(evaluations):
            if self._over()[0]:
                break
            if self._batched:
                value, gradients = pair_of(loss, params)
                params = self.apply(gradients, params, value=value)
            else:
                params = self.minimize(loss, params)
        return self.best(params)

    @property
    def values(self) -> np.ndarray:
        """The loss at the best point, of each problem in a batch; NaN before the first step."""
        return self._number("value", np.nan)

    @property
    def converged(self) -> np.ndarray:
        """Whether a search has ended at a small gradient or a level loss, of each problem."""
        stage = self._number("stage", 0.0)
        return np.asarray((stage == STATIONARY) | (stage == LEVEL))

    @property
    def taken(self) -> np.ndarray:
        """How many better points were taken, of each problem; `iterations` counts evaluations."""
        return self._number("taken", 0.0).astype(np.int64)

    def _number(self, name: str, missing: float) -> np.ndarray:
        if not self._state_of:
            return np.asarray(missing)
        return np.asarray(self._read(self._state_of[name]))

    def _over(self) -> tuple[str, str]:
        stage = self._number("stage", 0.0)
        if not np.all(stage >= STATIONARY):
            return "", ""
        found = [text for code, text in ENDINGS.items() if np.any(stage == code)]
        reason = "stuck" if np.any(stage == STUCK) else "converged"
        return reason, f"In {int(np.max(self.taken))} steps: {', or '.join(found)}."

    # ---- the pure form

    def init_state(self, params: Tree) -> State:
        """Make the state before the first evaluation, as a value.

        Parameters
        ----------
        params : tree of arrays
            The parameters, which may be a compiler's stand-ins.

        Returns
        -------
        dict
            Arrays by name. ``state["stage"]`` is 3 or more where a search has ended.
        """
        _, leaves, packed, box = self._unpacked(params)
        return self._begun(self._compiled(packed, leaves), packed, leaves, box)

    def stateless_apply(
        self, state: State, grads: Tree, params: Tree, value: Any
    ) -> tuple[Tree, State]:
        """Take up an evaluation as a pure function, which ``jax.jit`` compiles.

        Parameters
        ----------
        state : dict
            What `init_state` or an earlier call gave.
        grads, params : tree of arrays
            Gradients and parameters.
        value : float or array
            The loss there.

        Returns
        -------
        params : tree of arrays
            The next point to try.
        state : dict
            New state.
        """
        structure, leaves, packed, box = self._unpacked(params)
        gradients, other = flatten(grads, "gradients")
        checks.same_structure(other, structure)
        checks.gradients(gradients, leaves, structure)
        checks.every_gradient(gradients, leaves, structure, ALL)
        ns = self._compiled(packed, leaves)
        like = next(x for x in leaves if x is not None)
        with ns.quiet():
            number = _values(ns, packed, value, like)
            new = self._told(ns, packed, state, number, packed.vector(gradients), box)
            trial = self._native.trial(ns, packed.backend.xp, new, box)
        return structure.build(packed.parts(trial, leaves)), new

    def stateless_best(self, state: State, params: Tree) -> Tree:
        """Return the best point that has been taken, as a pure function.

        Parameters
        ----------
        state : dict
            The state.
        params : tree of arrays
            The parameters, for their structure.

        Returns
        -------
        tree of arrays
            New arrays.
        """
        structure, leaves, packed, _ = self._unpacked(params)
        return structure.build(packed.parts(state["point"], leaves))

    def _unpacked(self, params: Tree) -> tuple[Structure, list[Array], Packing, Any]:
        leaves, structure = flatten(params)
        found = checks.describe(leaves, structure)
        packed = packing(leaves, found, structure, self._batched)
        return structure, leaves, packed, self._boxed(packed, leaves, structure)

    def _compiled(self, packed: Packing, leaves: Sequence[Array | None]) -> Batch:
        like = next(x for x in leaves if x is not None)
        return Batch(packed.backend, packed.batch, packed.dtype, like)

    # ---- state

    def _native_state(self) -> list[Entry]:
        return [Entry(name, WHOLE.path, x) for name, x in self._state_of.items()]

    def _read(self, array: Any) -> np.ndarray:
        plain = isinstance(array, int | float)
        return np.array(array, np.float64) if plain else backend_of(array).to_host(array)

    def _fill(self, values: Mapping[tuple[str, str], np.ndarray]) -> None:
        new = {}
        for name, old in self._state_of.items():
            value = values[name, WHOLE.path]
            plain = isinstance(old, int | float)
            new[name] = float(value) if plain else backend_of(old).from_host(value, old)
        self._state_of = new

    def _described(self) -> tuple[str, dict[str, Any] | None]:
        numbers = all(bound is None or isinstance(bound, int | float) for bound in self._box)
        return "LBFGS", self._arguments() if numbers else None

    def _arguments(self) -> dict[str, Any]:
        machine = self._native
        return {
            "memory": machine.memory,
            "gtol": machine.gtol,
            "ftol": machine.ftol,
            "lower": self._box[0],
            "upper": self._box[1],
            "batched": self._batched,
            "decrease": machine.bounds.decrease,
            "curvature": machine.bounds.curvature,
            "trials": machine.bounds.trials,
        }

    def __repr__(self) -> str:
        usual = _defaults()
        shown = [f"{k}={v!r}" for k, v in self._arguments().items() if not _same(v, usual[k])]
        return f"LBFGS({', '.join(shown)})"

    def get_config(self) -> dict[str, Any]:
        """Return the numbers of the search and its bounds, for `from_config`."""
        return self._arguments()

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Make one from what `get_config` gave, or from what a file holds.

        Parameters
        ----------
        config : dict
            It stays as it is.

        Raises
        ------
        ValueError
            If it holds other names, or a number outside its interval.
        """
        arguments = dict(config.get("arguments", config))
        known = _defaults()
        strange = sorted(arguments.keys() - known.keys() - {"optimizer"})
        if strange:
            raise ValueError(f"LBFGS.from_config: found {strange}, wanted some of {sorted(known)}")
        return cls._made("LBFGS", {k: x for k, x in arguments.items() if k != "optimizer"})

    @classmethod
    def _made(cls, name: str, arguments: dict[str, Any]) -> Self:
        return cls(**arguments)


def _defaults() -> dict[str, Any]:
    return {name: row.default for name, row in inspect.signature(LBFGS).parameters.items()}


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other


def _values(ns: Plain, packed: Packing, value: Any, like: Array) -> Any:
    """Return the loss of each problem in the vocabulary of numbers."""
    if not isinstance(ns, Batch):
        try:
            return float(value)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"LBFGS: found the loss {value!r}, wanted one number ({error})"
            ) from None
    if not hasattr(value, "shape"):
        value = np.asarray(value, np.float64)
    if isinstance(value, np.ndarray | np.generic) and packed.backend.name != "numpy":
        value = packed.backend.xp.asarray(np.asarray(value), device=packed.backend.device(like))
    if tuple(value.shape) != packed.batch:
        raise ValueError(
            f"LBFGS: found a loss of shape {tuple(value.shape)}, wanted {packed.batch}, a number "
            "for each problem"
        )
    return ns.number(value)
