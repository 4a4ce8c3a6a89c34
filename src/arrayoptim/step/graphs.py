"""Steps in CUDA graphs: recorded once, then repeated, each with its own numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .._typing import Array, Tree
from ..arrays.trees import Structure, flatten
from ..engines import Prepared, captures
from . import checks
from .clipping import Measured
from .state import State
from .stepping import Stepping

Issued = tuple[Measured, Callable[[], None]]
"""The size of the gradients, and what launches the step."""


class Capturing(Stepping):
    """The part of `arrayoptim.Optimizer` that puts steps into CUDA graphs."""

    def capture(self, params: Tree) -> CapturedStep:
        """Make ready a step for a CUDA graph.

        State, kernels and tables on the device are made here, outside of the graph: while it is
        captured no memory can be taken.

        Parameters
        ----------
        params : tree of arrays
            CuPy arrays or torch CUDA tensors, all on one device.

        Returns
        -------
        CapturedStep
            Its `apply` is to be called once while the graph is captured, its `replay` for each
            step.

        Raises
        ------
        RuntimeError
            If a graph is being captured already.
        ValueError
            If a step of this optimizer needs more than kernels on one device.
        """
        leaves, structure = flatten(params)
        if captures(leaves):
            raise RuntimeError("a CUDA graph is being captured: call capture before")
        with self._lock:
            state = self._ready(leaves, structure)
            self._refuse_host(state)
            assert self._assignment is not None
            # The graph has tables of its own, as it reads them as long as it lives.
            prepared = Prepared(
                None,
                leaves,
                state.slots,
                self._assignment.layouts,
                structure.paths,
                self.threads,
                graph=True,
            )
            # Without gradients a step changes nothing, and loads each kernel that it needs.
            _, launch = self._issued(prepared, [None] * len(leaves))
            launch()
            return CapturedStep(self, prepared, leaves, structure)

    def _refuse_host(self, state: State) -> None:
        """Refuse what the host has to know or do between the kernels of a step."""
        fixed = self._fixed()
        several = len({formula.rule for formula in fixed.formulas}) > 1
        for found, what in (
            (self.nonfinite != "ignore", f"nonfinite={self.nonfinite!r}"),
            (self._hyper["offload"], "offload=True"),
            (fixed.each, "clipnorm_per_tensor"),
            (fixed.adaptive, "agc"),
            (self._hyper["clipnorm"] is not None and several, "clipnorm under several rules"),
            (self._step_seed(state.iterations, np) is not None, "stochastic_rounding=True"),
        ):
            if found:
                raise ValueError(
                    f"a CUDA graph cannot hold a step of {self!r}: {what} needs the host"
                )

    def _stages(self) -> tuple[Any, ...]:
        """Give what a graph holds for good: rules and slots, who is frozen, whose norm is found."""
        state, fixed = self._state, self._fixed()
        assert state is not None
        self._assignment = self._assign(state.leaves, self._assignment)
        frozen = [member in fixed.frozen for member in self._assignment.members]
        bounded = [row.get("clipnorm") is not None for row in fixed.values]
        return self._assignment.layouts, frozen, bounded

    def _issued(self, prepared: Prepared, gradients: Sequence[Array | None]) -> Issued:
        """Make ready the launches of the coming step, and change nothing."""
        state, assignment = self._state, self._assignment
        assert state is not None
        assert assignment is not None
        values = self._values(state)
        given = self._thawed(gradients, assignment)
        size = self._measure(values, given, prepared)
        steps, _ = self._steps(values, state, assignment, size, np, _unmeasured)
        return size, prepared.served(steps, given)

    def _require_stages(self, stages: tuple[Any, ...]) -> None:
        """Refuse a graph for hyperparameters that ask for more than other numbers."""
        if self._stages() != stages:
            raise ValueError(
                f"{self!r} asks for other stages of a step than when capture was called: rule, "
                "slots, constraint, bound on the norm or what is frozen; capture it anew"
            )

    def _relaunched(
        self,
        prepared: Prepared,
        size: Measured,
        known: tuple[State | None, tuple[Any, ...]],
        launch: Callable[[], Any],
    ) -> None:
        """Take a step that a graph holds, of a state and stages."""
        state, stages = known
        with self._lock:
            if state is None or self._state is not state:
                raise RuntimeError(
                    f"{self!r} has another state than when the graph was captured: capture it anew"
                )
            if state.interrupted:
                raise RuntimeError(
                    "a step of this optimizer was interrupted half-way; load a checkpoint of "
                    "parameters and optimizer, and capture anew"
                )
            self._require_stages(stages)
            self._refuse_host(state)
            values = self._values(state)
            assert self._assignment is not None
            steps, scalars = self._steps(values, state, self._assignment, size, np, _unmeasured)
            prepared.renew(steps)
            last = self._fixed(), values, size, state.iterations
            state.interrupted = True
            launch()
            self._commit(state, scalars, last)


class CapturedStep:
    """A step of an optimizer in a CUDA graph; `Optimizer.capture` makes it.

    The graph repeats launches with the addresses that they had. What changes from step to step,
    such as the learning rate and the corrections by the number of the step, is sent to the device
    before each of them, in the order of the stream. So a step of the graph has the bits of `apply`.
    """

    def __init__(
        self,
        optimizer: Capturing,
        prepared: Prepared,
        leaves: Sequence[Array | None],
        structure: Structure,
    ) -> None:
        self._optimizer, self._prepared = optimizer, prepared
        self._leaves, self._structure = leaves, structure
        self._known = optimizer._state, optimizer._stages()
        self._issued: Issued | None = None

    def apply(self, grads: Tree) -> None:
        """Put the step into the graph that is being captured; it is not taken.

        Parameters
        ----------
        grads : tree of arrays
            The gradients, structured like the parameters. Each replay reads them where they are.

        Raises
        ------
        RuntimeError
            If no graph is being captured, or this step is in one already.
        TypeError, ValueError
            If gradients and parameters do not fit each other, or hyperparameters set since ask for
            other stages of a step.
        """
        found, other = flatten(grads, "gradients")
        if other is not self._structure:
            checks.same_structure(other, self._structure)
        if not captures(self._leaves):
            raise RuntimeError(
                "no CUDA graph is being captured on the current stream: this puts a step into one; "
                "the optimizer's own apply takes a step"
            )
        if self._issued is not None:
            raise RuntimeError("this step is in a CUDA graph already: capture another one")
        checks.gradients(found, self._leaves, self._structure)
        with self._optimizer._lock:
            self._optimizer._require_stages(self._known[1])
            issued = self._optimizer._issued(self._prepared, found)
            issued[1]()
        # What it holds, such as copies of gradients, is the graph's to read.
        self._issued = issued

    def replay(self, graph: Any) -> None:
        """Take a step, and whatever else the graph holds.

        Parameters
        ----------
        graph : torch.cuda.CUDAGraph or cupy.cuda.graph.Graph
            The graph.

        Raises
        ------
        TypeError
            If it is no graph.
        RuntimeError
            If no step has been put into one, or the optimizer has another state since. Nothing has
            changed then.
        ValueError
            If hyperparameters set since ask for other stages than the graph holds.
        """
        launch = getattr(graph, "replay", None) or getattr(graph, "launch", None)
        if not callable(launch):
            raise TypeError(f"found {graph!r}, wanted a torch.cuda.CUDAGraph or a graph of CuPy's")
        if self._issued is None:
            raise RuntimeError("no step is in a CUDA graph yet: call apply while one is captured")
        self._optimizer._relaunched(self._prepared, self._issued[0], self._known, launch)


def _unmeasured(step: Any) -> Any:
    raise AssertionError("no rule that measures all tensors is served by a kernel")
