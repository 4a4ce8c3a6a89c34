"""The array engine: the rule as array expressions of the arrays' own library.

It serves every backend, and is the specification that the fused engines must match.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Any

from ..._typing import Array, Scalar
from ...arrays.libraries import COMPUTE, Backend, backend_of
from ...arrays.rows import Rows
from ...numerics.slots import Layout
from ..steps import Step
from .rows import put_rows, rows_of
from .single import Operands, Slots, as_operands, clipped_wide, totals_of, updated
from .stacks import joint, stacks

Result = tuple[Array, Slots]
Do = Callable[..., Any]
Trees = tuple[Any, Any, Any]
"""Parameters, gradients and slots, each indexed by the parameter's position."""
Job = Callable[[], list[tuple[int, Any]]]
"""Computes a result for some parameters, by their indices, without writing."""


def sweep(
    step: Step,
    params: Sequence[Array | None],
    grads: Sequence[Array | None],
    slots: Sequence[Slots],
) -> tuple[list[Array | None], list[Slots]]:
    """Return the result of a step for every parameter with a gradient, without writing.

    Parameters
    ----------
    step : Step
        Rule, coefficients and indices.
    params, grads : sequence of array or None
        Parameters and gradients of the tree, None for those without a step.
    slots : sequence of dict
        The slots of each parameter, by name.

    Returns
    -------
    params : list
        New arrays, or the given ones if not stepped.
    slots : list of dict
        New slots.
    """
    new_params, new_slots = list(params), list(slots)
    for job in _jobs(step, params, grads, slots, updated):
        for i, (p, state) in job():
            backend, g = backend_of(params[i]), grads[i]
            with backend.guard(params[i]):
                if type(g) is Rows:
                    # Read-only arrays are returned as new ones anyway.
                    own = backend.copy if backend.writable(params[i]) else lambda x: x
                    new_params[i] = g.put(own(params[i]), p)
                    held = {k: own(x) for k, x in slots[i].items()}
                    new_slots[i] = put_rows(g, held, state)
                    continue
                new_params[i], new_slots[i] = p, _ordered(backend, state, slots[i])
    return new_params, new_slots


def _ordered(backend: Backend, new: Slots, old: Slots) -> Slots:
    """Return slots in the memory order that fused engines expect."""
    return {name: backend.ordered(x, old[name]) for name, x in new.items()}


class InPlace:
    """A step that updates writeable parameters in place.

    It is an act, see `arrayoptim.engines.steps`: results are kept until all of them have been
    written, and written again if writing was interrupted.

    Parameters
    ----------
    steps : sequence of Step
        Rules, coefficients and indices.
    params, grads, slots : sequence
        As for `sweep`.

    Attributes
    ----------
    params : list
        The updated parameters, or new arrays.
    slots : list of dict
        New slots; the given ones are not changed.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        params: Sequence[Array | None],
        grads: Sequence[Array | None],
        slots: Sequence[Slots],
    ) -> None:
        self.params, self.slots = list(params), list(slots)
        self._targets, self._kept, self._grads = params, slots, grads
        self._jobs = [j for step in steps for j in _jobs(step, params, grads, slots, updated)]
        self._place = 0
        self._found: tuple[int, list[tuple[int, Result]]] | None = None

    def __call__(self) -> None:
        """Do the remaining work."""
        while self._place < len(self._jobs):
            if self._found is None or self._found[0] != self._place:
                # Keep the results of one job at a time, as they may be large.
                self._found = None
                self._found = self._place, self._jobs[self._place]()
            for i, (p, state) in self._found[1]:
                target, g = self._targets[i], self._grads[i]
                backend = backend_of(target)
                with backend.guard(target):
                    if type(g) is Rows:
                        self.params[i] = g.put(target, p)
                        self.slots[i] = put_rows(g, self._kept[i], state)
                        continue
                    if backend.writable(target):
                        backend.store(target, p)
                    else:
                        self.params[i] = p
                    self.slots[i] = _ordered(backend, state, self._kept[i])
            self._place += 1
        self._found = None


def measure(
    step: Step,
    params: Sequence[Array | None],
    grads: Sequence[Array | None],
    slots: Sequence[Slots],
) -> dict[int, list[Scalar]]:
    """Return the totals that a step needs for every parameter with a gradient, by its index.

    Parameters
    ----------
    step : Step
        A step of a rule with totals.
    params, grads, slots : sequence
        As for `sweep`.

    Returns
    -------
    dict of int to list of scalar
        The totals of each: floats, or 0-d arrays if the library compiles.
    """
    return dict(row for job in _jobs(step, params, grads, slots, totals_of) for row in job())


def _jobs(
    step: Step,
    params: Sequence[Array | None],
    grads: Sequence[Array | None],
    slots: Sequence[Slots],
    do: Do,
) -> Iterator[Job]:
    """Yield the work on the parameters with gradients, in groups that run together."""
    compiled: dict[Any, list[int]] = {}
    eager: list[int] = []
    tree = params, grads, slots
    matrices = step.layout.rule.kind == "matrix"
    for i in step.places:
        p = params[i]
        if p is None or grads[i] is None or (matrices and 0 in p.shape):
            continue
        backend = backend_of(p)
        if type(grads[i]) is Rows:
            yield partial(_by_rows, step, tree, i, do)
        elif backend.compiles:
            compiled.setdefault((backend, backend.device(p)), []).append(i)
        else:
            eager.append(i)
    operands: dict[Any, dict[str, Scalar]] = {}
    for groups in joint(step, params, stacks(step, params, grads, eager)):
        yield partial(_eager, step, tree, groups, operands, do)
    for (backend, _), places in compiled.items():
        if step.seed is not None:
            raise ValueError(f"stochastic rounding does not serve {backend.name} arrays")
        yield partial(_together, step, tree, places, backend, do)


def _by_rows(
    step: Step,
    tree: Trees,
    i: int,
    do: Do,
) -> list[tuple[int, Any]]:
    """Run the work on the rows of one array that a sparse gradient has, as a separate array."""
    params, grads, slots = tree
    p, g = params[i], grads[i]
    assert p is not None
    backend = backend_of(p)
    with backend.guard(p):
        rows = {i: g.of(p)}, {i: g.rows}, {i: rows_of(g, slots[i])}
    if backend.compiles:
        return _together(step, rows, (i,), backend, do)
    return _eager(step, rows, [(i,)], {}, do)


def _together(
    step: Step,
    tree: Trees,
    places: Sequence[int],
    backend: Backend,
    do: Do,
) -> list[tuple[int, Any]]:
    """Run the work on all arrays of a compiling library, in one compiled call."""
    params, *_ = given = [[sequence[i] for i in places] for sequence in tree]
    shared = {compute: step.shared(compute) for compute in step.values}
    pairs = zip(places, params, strict=True)
    each = [step.own(COMPUTE[backend.dtype(p)], i) for i, p in pairs]
    done = _compiled(step.layout, backend, do)(shared, each, *given)
    return list(zip(places, done, strict=True))


def _eager(
    step: Step,
    tree: Trees,
    groups: Sequence[Sequence[int]],
    operands: dict[Any, dict[str, Scalar]],
    do: Do,
) -> list[tuple[int, Any]]:
    """Run the work on arrays of one library and device, those of a group as a stack."""
    params, *_ = tree
    like = params[groups[0][0]]
    backend = backend_of(like)
    with backend.guard(like):
        done = do([_given(step, tree, alike, operands, backend) for alike in groups])
        results: list[tuple[int, Any]] = []
        for alike, result in zip(groups, done, strict=True):
            if len(alike) == 1:
                results.append((alike[0], result))
                continue
            new, state = result
            rows = {n: backend.along_first(x) for n, x in state.items()}
            for k, (i, p) in enumerate(zip(alike, backend.along_first(new), strict=True)):
                results.append((i, (p, {n: xs[k] for n, xs in rows.items()})))
        return results


def _given(
    step: Step,
    tree: Trees,
    alike: Sequence[int],
    operands: dict[Any, dict[str, Scalar]],
    backend: Backend,
) -> Operands:
    """Return the operands of one array, or of a stack of arrays of equal shape."""
    params, grads, slots = tree
    i = alike[0]
    p, g, held = params[i], grads[i], slots[i]
    shape, compute = tuple(p.shape), COMPUTE[backend.dtype(p)]
    key = backend, compute, backend.device(p)
    if key not in operands:
        operands[key] = as_operands(step.shared(compute), backend, p)
    own = step.own(compute, i)
    scalars = operands[key] | as_operands(own, backend, p) if own else operands[key]
    numbers = step.shared(compute) | own if step.layout.rule.ratio else {}
    if len(alike) > 1:
        p, g = (backend.stacked([row[k] for k in alike]) for row in (params, grads))
        held = {n: backend.stacked([slots[k][n] for k in alike]) for n in held}
    place = i, step.seed
    return Operands(step.layout, backend, scalars, numbers, place, p, g, held, shape)


@cache
def _compiled(layout: Layout, backend: Backend, do: Do) -> Callable[..., list[Any]]:
    """Return the work on many arrays as one compiled function."""

    def all_of(
        shared: dict[str, dict[str, Scalar]],
        each: list[dict[str, Scalar]],
        params: list[Array],
        grads: list[Array],
        slots: list[Slots],
    ) -> list[Any]:
        def done(numbers: dict[str, Scalar], p: Array, g: Array, held: Slots) -> Any:
            g, numbers = clipped_wide(backend, p, g, numbers)
            scalars = as_operands(numbers, backend, p)
            shape = tuple(p.shape)
            given = Operands(layout, backend, scalars, numbers, (0, None), p, g, held, shape)
            return do([given])[0]

        def spread(own: dict[str, Scalar], p: Array, g: Array, held: Slots) -> Any:
            numbers = shared[COMPUTE[backend.dtype(p)]] | own
            function = backend.spread(done, (p, held)) if do is updated else done
            return function(numbers, p, g, held)

        return list(map(spread, each, params, grads, slots))

    return backend.compile(all_of)
