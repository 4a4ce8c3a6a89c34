"""Steps in CUDA graphs: captured once, then replayed with the scalars of each step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .._typing import Namespace, Scalar, Tree
from ..arrays.rows import is_sparse
from ..arrays.trees import Structure, flatten
from ..engines import Act, Engines, Once, Step, captures, carry_out
from . import checks
from .clipping import Measured
from .executors import measured_where_wanted
from .plan import Plan
from .session import Session
from .settings import Settings, Values
from .state import State
from .take import Executor, Leaves, Taken, take

Issued = tuple[Measured, list[Act]]
"""The norms of the gradients, and the function that launches the step."""


class _Recorded(Executor[Any]):
    """A step that is captured or will be: nothing in it synchronises with the host."""

    xp: Namespace = np

    def __init__(self, engines: Engines, leaves: Leaves) -> None:
        self.engines, self.leaves = engines, leaves

    @property
    def by_arrays(self) -> Leaves:
        """Return nothing, as kernels clip units; see `Executor`."""
        return ()

    def values(self, settings: Settings, state: State) -> Values:
        """Return the hyperparameters of the step; see `Executor`."""
        return settings.at(state.iterations, state.scalars)

    def totals(self, step: Step, gradients: Leaves) -> dict[int, list[Scalar]]:
        """Raise: a graph cannot wait for totals; see `Executor`."""
        raise ValueError(
            f"a CUDA graph cannot hold a step of the rule {step.layout.rule.name}: what follows "
            "from its totals over all tensors needs the host"
        )

    def resident(self, gradients: Leaves) -> Any:
        """Return what keeps totals and scalar state on a device; see `Executor`."""
        return self.engines.resident(gradients)

    def refuses(self, taken: Taken) -> bool:
        """Return False: the host does not know whether gradients are finite."""
        return False

    def skipped(self, taken: Taken) -> Any:
        """Do nothing, as no step is skipped."""


class _Issue(_Recorded):
    """Prepares the launches of a step and changes nothing."""

    def measured(self, settings: Settings, values: Values, gradients: Leaves) -> Measured:
        """Return the norm as an array on the device; see `Executor`."""
        self.engines.look(self.leaves, gradients)
        return measured_where_wanted(settings, values, gradients, self.engines)

    def carried_out(
        self, taken: Taken, steps: list[Step], gradients: Leaves, scalars: dict[str, Scalar]
    ) -> Issued:
        """Return the function that launches the step."""
        return taken.size, self.engines.ready(steps, self.leaves, gradients)


class _Replay(_Recorded):
    """Replays a captured step with the current per-step scalars."""

    def __init__(
        self,
        engines: Engines,
        leaves: Leaves,
        state: State,
        size: Measured,
        launch: Callable[[], Any],
        commit: Callable[[Taken], None],
    ) -> None:
        super().__init__(engines, leaves)
        self.state, self.size, self.launch, self.commit = state, size, launch, commit

    def measured(self, settings: Settings, values: Values, gradients: Leaves) -> Measured:
        """Return the norms that the kernels of the graph compute; see `Executor`."""
        return self.size

    def carried_out(
        self, taken: Taken, steps: list[Step], gradients: Leaves, scalars: dict[str, Scalar]
    ) -> None:
        """Send the per-step scalars to the device, launch the graph and commit."""
        state = self.state
        self.engines.renew(steps)

        def commit() -> None:
            state.scalars, state.iterations = scalars, taken.iterations + 1
            self.commit(taken)

        carry_out([Once(self.launch), commit], state.interrupt)


def capture(session: Session, params: Tree) -> CapturedStep:
    """Prepare a step for a CUDA graph; see `Optimizer.capture`."""
    leaves, structure = flatten(params)
    if captures(leaves):
        raise RuntimeError("a CUDA graph is being captured; call capture before its capture begins")
    with session.lock:
        state, plan = session.ready(leaves, structure), session.plan
        _refuse_host(plan)
        # The graph needs its own tables, because it reads them for as long as it lives.
        layouts, threads = plan.assignment.layouts, plan.settings.whole["threads"]
        engines = Engines(leaves, state.slots, layouts, structure.paths, threads, graph="sent")
        # A step without gradients changes nothing, but loads every kernel that is needed.
        _, launches = take(plan, state, [None] * len(leaves), _Issue(engines, leaves))
        for launch in launches:
            launch()
        return CapturedStep(session, engines, leaves, structure)


def needs_host(plan: Plan) -> str | None:
    """Return why the host must act between the kernels of a step; None if it need not."""
    settings, h = plan.settings, plan.settings.whole
    for found, what in (
        (h["nonfinite"] != "ignore", f"nonfinite={h['nonfinite']!r}"),
        (settings.guarded, "skip_spikes"),
        (settings.loss_guarded, "skip_loss_spikes"),
        (bool(settings.measures), "measure"),
        (h["offload"], "offload=True"),
        (
            settings.each and len(plan.assignment.parts) > 1,
            "clipnorm_per_tensor with several rules or storage formats",
        ),
    ):
        if found:
            return f"{what} needs the host"
    return None


def _refuse_host(plan: Plan) -> None:
    """Refuse settings for which the host must act between the kernels of a step."""
    settings, reason = plan.settings, needs_host(plan)
    # One formula may have a rule for matrices and another for vectors.
    if plan.assignment.totals and len(plan.assignment.parts) > 1:
        reason = "totals with several rules or storage formats needs the host"
    if reason is not None:
        raise ValueError(f"a CUDA graph cannot hold a step of {settings.formula!r}: {reason}")


def _fixed(plan: Plan) -> tuple[Any, ...]:
    """Return what a graph fixes: rules, slots, frozen parameters, and which norms are computed."""
    members, assignment = plan.settings.members, plan.assignment
    frozen = [members[k].frozen for k in assignment.members]
    words = "clipnorm", "clipnorm_per_tensor"
    bounded = [[member.values.get(word) is not None for word in words] for member in members]
    return assignment.layouts, frozen, bounded


class CapturedStep:
    """A step of an optimizer in a CUDA graph; `Optimizer.capture` makes it.

    A graph repeats launches with the addresses at capture. Per-step scalars, such as the
    learning rate and bias corrections, are sent to the device on the graph's stream before each
    replay. So a replayed step is bit-identical to `apply`.
    """

    def __init__(
        self, session: Session, engines: Engines, leaves: Leaves, structure: Structure
    ) -> None:
        self._session, self._engines = session, engines
        self._formula = session.formula  # a session refers to its optimizer weakly
        self._leaves, self._structure = leaves, structure
        self._state, self._seen = session.state, session.plan
        self._fixed = _fixed(self._seen)
        self._issued: Issued | None = None

    def _require_same(self) -> Plan:
        """Refuse hyperparameters that change the captured stages, not just their scalars."""
        plan = self._session.plan
        if plan is self._seen:
            return plan
        if _fixed(plan) != self._fixed:
            raise ValueError(
                f"{self._session.formula!r} now needs other stages in a step than when capture was "
                "called (rule, slots, constraint, clipping by norm or frozen parameters); capture "
                "it again"
            )
        _refuse_host(plan)
        self._seen = plan
        return plan

    def apply(self, grads: Tree) -> None:
        """Record the step into the graph that is being captured, without taking it.

        Parameters
        ----------
        grads : tree of arrays
            The gradients, structured like the parameters. Every replay reads the same addresses.

        Raises
        ------
        RuntimeError
            If no graph is being captured, or this step is already in one.
        TypeError, ValueError
            If gradients and parameters do not fit each other, or hyperparameters set since then
            need other stages in a step.
        """
        found, other = flatten(grads, "gradients")
        if other is not self._structure:
            checks.same_structure(other, self._structure)
        if not captures(self._leaves):
            raise RuntimeError(
                "no CUDA graph is being captured on the current stream: this records a step into "
                "one; to take a step, call the optimizer's own apply"
            )
        if self._issued is not None:
            raise RuntimeError("this step is in a CUDA graph already; call capture for another one")
        if any(map(is_sparse, found)):
            raise ValueError(
                "a CUDA graph cannot hold a step with sparse gradients, whose rows differ from "
                "step to step; pass dense ones"
            )
        checks.gradients(found, self._leaves, self._structure)
        with self._session.lock:
            plan, state = self._require_same(), self._session.state
            assert state is not None
            issued: Issued = take(plan, state, found, _Issue(self._engines, self._leaves))
            for launch in issued[1]:
                launch()
        # Kept alive for the graph, which reads its buffers, such as copies of gradients.
        self._issued = issued

    def replay(self, graph: Any) -> None:
        """Replay the graph: take the step, and run whatever else was captured.

        Parameters
        ----------
        graph : torch.cuda.CUDAGraph or cupy.cuda.graph.Graph
            The graph.

        Raises
        ------
        TypeError
            If it is not a CUDA graph.
        RuntimeError
            If no step has been captured, or the optimizer's state has been replaced since.
            Nothing has changed then.
        ValueError
            If hyperparameters set since need other stages than those captured.
        """
        launch = getattr(graph, "replay", None) or getattr(graph, "launch", None)
        if not callable(launch):
            raise TypeError(f"found {graph!r}, wanted a torch.cuda.CUDAGraph or a CuPy graph")
        if self._issued is None:
            raise RuntimeError("no step is in a CUDA graph; call apply while one is being captured")
        session = self._session
        with session.lock:
            state = session.state
            if state is None or self._state is not state:
                raise RuntimeError(
                    f"the state of {session.formula!r} has been replaced since the graph was "
                    "captured; capture it again"
                )
            if state.interrupted:
                raise RuntimeError(
                    "a step of this optimizer was interrupted half-way; load a checkpoint of "
                    "parameters and optimizer, and capture again"
                )
            plan = self._require_same()
            size, nothing = self._issued[0], [None] * len(self._leaves)
            replayed = _Replay(self._engines, self._leaves, state, size, launch, session.note)
            take(plan, state, nothing, replayed)
