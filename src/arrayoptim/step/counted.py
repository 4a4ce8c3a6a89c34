"""Steps whose per-step scalars the device computes from state in device memory.

`Numbering` computes what depends on the step count, on the host as elsewhere, but once and with
symbols. The resulting formulas are compiled into a kernel that runs before that of the step and
also advances the state. So a CUDA graph takes one step after another without any call from Python.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

from .._typing import Array, Namespace, Scalar
from ..arrays.trees import Structure
from ..engines import (
    OWN,
    Act,
    Counting,
    Engines,
    Step,
    captures,
    carry_out,
    refuse_capturing,
)
from ..gradients import Pending
from ..numerics.formulas import FORMULAS, Cell, Number, number, ordered
from . import checks
from .clipping import Measured
from .graphs import needs_host
from .plan import Plan
from .pure import numbers_in
from .session import Session
from .settings import Settings, Values
from .state import State
from .take import Executor, Leaves, Taken, take

COUNT = "iterations"
"""The name of the step count in the state."""

Held = Sequence[Sequence[Array]]
"""For each parameter its step count and scalar state, as 0-d float64 arrays on its device."""


class _Writing(Executor["tuple[list[Step], dict[str, Scalar]]"]):
    """Traces the per-step scalars as formulas, and takes no step."""

    xp: Namespace = FORMULAS

    def __init__(self, leaves: Leaves, values: Values, norms: Pending) -> None:
        self.leaves, self._values, self._norms = leaves, values, norms

    @property
    def by_arrays(self) -> Leaves:
        """Return nothing, as kernels clip units; see `Executor`."""
        return ()

    def values(self, settings: Settings, state: State) -> Values:
        """Return symbols for the hyperparameters; see `Executor`."""
        return self._values

    def measured(self, settings: Settings, values: Values, gradients: Leaves) -> Measured:
        """Return norms that will be computed on the device; see `Executor`."""
        return Measured() if settings.unmeasured else Measured(self._norms)

    def totals(self, step: Step, gradients: Leaves) -> dict[int, list[Scalar]]:
        """Raise: a rule that needs totals is refused before; see `Executor`."""
        raise AssertionError("the numbers of such a step are the host's")

    def refuses(self, taken: Taken) -> bool:
        """Return False: the host does not know whether gradients are finite."""
        return False

    def skipped(self, taken: Taken) -> Any:
        """Do nothing, as no step is skipped."""

    def carried_out(
        self, taken: Taken, steps: list[Step], gradients: Leaves, scalars: dict[str, Scalar]
    ) -> tuple[list[Step], dict[str, Scalar]]:
        """Return the formulas."""
        return steps, scalars


@dataclass(eq=False)
class _Written:
    """The formulas of a step, and what they are valid for.

    Attributes
    ----------
    plan : Plan
        The plan that they were traced from.
    others : list
        The settings of the plan that are not numbers.
    steps : list of Step
        The formulas.
    cells : dict of str to Cell
        The inputs of the formulas, by the names of hyperparameters.
    norms : Pending
        Holds the device addresses of the gradients' norms.
    """

    plan: Plan
    others: list[Any]
    steps: list[Step]
    cells: dict[str, Cell]
    norms: Pending

    def holds(self, plan: Plan) -> bool:
        """Whether the formulas are valid for a plan."""
        same = plan.assignment is self.plan.assignment and _others(plan) == self.others
        return same and self.cells.keys() <= numbers_in(plan.settings).keys()

    def fill(self, numbers: Mapping[str, float]) -> None:
        """Set the inputs to the present hyperparameters."""
        for name, cell in self.cells.items():
            cell.value = float(numbers[name])


class Counted:
    """The steps of an optimizer whose step counts are on the device of its parameters.

    Parameters
    ----------
    session : Session
        The optimizer's session, which has the state of these parameters.
    leaves : sequence of array
        The parameters.
    structure : Structure
        Their structure.
    held : sequence of sequence of array
        For each parameter its step count, then its scalar state.

    Raises
    ------
    ValueError
        If a step needs the host, or its scalars cannot be computed on the device.
    """

    def __init__(self, session: Session, leaves: Leaves, structure: Structure, held: Held) -> None:
        self._session, self._leaves, self._structure = session, leaves, structure
        self._held = held
        self._plan, self._written = session.plan, self._write(session.plan)
        self._engines = self._made()
        self._read: set[str] = set()
        self.size: Pending | None = None
        # Kept alive: replayed graphs read their tables and scalars, and write their slots.
        self.captured: list[Any] = []
        self.stepped = False

    def _made(self) -> Engines:
        refuse_capturing(self._leaves)
        state, plan = self._session.ready(self._leaves, self._structure), self._session.plan
        given = self._leaves, state.slots, plan.assignment.layouts, self._structure.paths
        return Engines(*given, plan.threads, graph="alone")

    def step(
        self,
        gradients: Leaves,
        live: Mapping[str, Array],
        norm: Pending | None = None,
        done: Act | None = None,
    ) -> None:
        """Launch a step, or capture it if a CUDA graph is being captured.

        Parameters
        ----------
        gradients : sequence of array or None
            A gradient for each parameter; one with None is unchanged, and so is its count.
        live : mapping of str to array
            Hyperparameters that are 0-d arrays on the device, read when the step runs there.
        norm : Pending, optional
            The norm to clip by, if it is of more gradients than these.
        done : callable, optional
            Called after all launches, as part of the step.

        Raises
        ------
        RuntimeError
            If a graph is being captured, and the step needs something that was not made before.
        TypeError, ValueError
            If a gradient does not match its parameter, or hyperparameters set since then need the
            host. Nothing has changed then.
        """
        session, leaves = self._session, self._leaves
        with session.lock:
            state = session.state
            assert state is not None
            if state.interrupted:
                session.ready(leaves, self._structure)  # which says so
            plan = session.plan
            written = self._renewed(plan, live)
            given = plan.thawed(gradients) if plan.settings.frozen else gradients
            try:
                if not self._engines.look(leaves, given):
                    self._engines = self._made()
                    self._engines.look(leaves, given)
                if not plan.settings.unmeasured:
                    self.size = self._measured(given, norm)
                    for held, at in (
                        (written.norms.norm, self.size.norm),
                        (written.norms.norms, self.size.norms),
                    ):
                        held.address = 0 if at is None else at.address
                acts = [*self._engines.ready(written.steps, leaves, given)]
            except (TypeError, ValueError):
                checks.gradients(gradients, leaves, self._structure)
                raise
            self.stepped = True
            if captures(leaves[:1]):
                self.captured.append((self._engines, self.size, {**live}))
            acts = [state.interrupt, *acts, *([done] if done else []), state.complete]
            carry_out(acts, state.interrupt)

    def check(self, gradients: Leaves) -> None:
        """Check the parameters and gradients of the next step, before anything changes."""
        try:
            self._engines.look(self._leaves, self._session.plan.thawed(gradients))
        except (TypeError, ValueError):
            checks.gradients(gradients, self._leaves, self._structure)
            raise

    def _measured(self, gradients: Leaves, norm: Pending | None) -> Pending:
        """Return the norms of the gradients, and a global one if that is of more than these."""
        if norm is None or not self._session.plan.settings.each:
            return norm or self._norm(gradients)
        return replace(self._norm(gradients), norm=norm.norm, read=norm.read)

    def _norm(self, gradients: Leaves) -> Pending:
        found = self._engines.norm(gradients, self._session.plan.settings.each)
        assert found is not None  # what is counted is in kernels of one device
        return found

    def report(self, iterations: int, live: Mapping[str, float]) -> Taken:
        """Return the last step, given the count after it and the hyperparameters on the device."""
        settings = self._session.plan.settings
        values = [{**own} for own in settings.at(iterations - 1, {})]
        values[0] |= live
        unmeasured = settings.unmeasured or self.size is None
        return Taken(settings, values, Measured(None if unmeasured else self.size), iterations - 1)

    # ---- formulas

    def _renewed(self, plan: Plan, live: Mapping[str, Array]) -> _Written:
        """Return the formulas, with their inputs set to present values."""
        if plan is not self._plan and not self._written.holds(plan):
            refuse_capturing(self._leaves)
            self._written, self._engines = self._write(plan), self._made()
        if plan is not self._plan or live.keys() != self._read:
            self._plan, self._read = plan, set(live)
            self._written.fill(numbers_in(plan.settings))
        for name in self._written.cells.keys() & live.keys():
            self._written.cells[name].value = live[name]
        return self._written

    def _write(self, plan: Plan) -> _Written:
        state = self._session.state
        assert state is not None
        reason = needs_host(plan)
        if reason is None and plan.assignment.totals:
            reason = "a rule with totals over all tensors needs the host"
        if reason is None and plan.settings.by_chance:
            reason = "stochastic_rounding=True draws by a seed of the host's"
        if reason is None and any(member.schedules for member in plan.settings.members):
            reason = "a schedule is a function of Python"
        try:
            if reason is None:
                return self._formulas(plan, state)
        except (AttributeError, TypeError) as error:
            reason = f"its numbers are computed by Python on the host, as {error}"
        raise ValueError(reason)

    def _formulas(self, plan: Plan, state: State) -> _Written:
        settings = plan.settings
        cells = {name: Cell(name, 0.0) for name in numbers_in(settings)}
        inputs = {name: Number("input", name=name, cell=cell) for name, cell in cells.items()}
        values = [
            {name: inputs.get(member.prefix + name, x) for name, x in member.values.items()}
            for member in settings.members
        ]
        names = COUNT, *state.scalars
        symbols = {name: Number("state", name=name) for name in names}
        count: Any = symbols.pop(COUNT)
        before = replace(state, scalars=symbols, iterations=count, clocks=[], clock_of=[])
        norms = Pending(SimpleNamespace(address=0), norms=SimpleNamespace(address=0))
        nothing = [None] * len(self._leaves)
        steps, scalars = take(plan, before, nothing, _Writing(self._leaves, values, norms))
        after = {COUNT: count + 1.0} | {name: number(scalars[name]) for name in symbols}
        results = [x for step in steps for row in step.values.values() for x in row.values()]
        used = {x.cell: None for x in ordered([*_numbers(results), *after.values()]) if x.cell}
        counting = Counting(self._held, names, after, list(used))
        steps = [replace(step, computed=counting) for step in steps]
        written = _Written(plan, _others(plan), steps, {c.name: c for c in used}, norms)
        written.fill(numbers_in(settings))
        return written


def _others(plan: Plan) -> list[Any]:
    """Return the settings that are not numbers and that formulas depend on."""
    known = numbers_in(plan.settings)
    return [
        (member.prefix + name, value)
        for member in plan.settings.members
        for name, value in member.values.items()
        if member.prefix + name not in known
    ]


def _numbers(values: Iterable[Any]) -> list[Number]:
    """Return the symbols in values: scalars, pending clip factors, and lists of these."""
    found: list[Number] = []
    for value in values:
        if isinstance(value, OWN):
            found += _numbers(value)
        elif isinstance(value, Pending):
            found += _numbers([value.bound, value.tensor_bound])
        elif isinstance(value, Number):
            found.append(value)
    return found
