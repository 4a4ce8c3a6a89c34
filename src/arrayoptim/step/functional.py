"""The pure form: the state is a value, and a step a function that a compiler can trace."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .._typing import Array, Namespace, Scalar, Tree
from ..arrays.libraries import Backend, backend_of
from ..arrays.trees import Structure, flatten, named
from ..config.groups import STARTING
from ..config.hyper import Hyper, value_at
from ..config.registry import nearest
from ..engines import Step, measure, sweep
from ..numerics.slots import Layout
from . import checks
from .assignment import Assignment
from .formula import Formula
from .state import State, from_tree
from .stepping import Stepping


class Functional(Stepping):
    """The part of `arrayoptim.Optimizer` that changes nothing."""

    def init_state(self, params: Tree) -> dict[str, Any]:
        """Make the state before the first step, as a value.

        Parameters
        ----------
        params : tree of arrays
            The parameters, which may be a compiler's stand-ins.

        Returns
        -------
        dict
            A tree of numbers and arrays: ``iterations``, ``skipped``, ``hyper`` (every
            hyperparameter that is a number and counts in a step), ``scalars`` and ``slots``, each
            slot a tree like `params`. For JAX parameters all of them are JAX arrays.
        """
        leaves, structure = flatten(params)
        self._refuse_apart(leaves)
        state = self._fresh(leaves, checks.describe(leaves, structure))
        return self._as_tree(state, structure, leaves)

    def stateless_apply(
        self, state: dict[str, Any], grads: Tree, params: Tree
    ) -> tuple[Tree, dict[str, Any]]:
        """Take one step as a pure function.

        Parameters
        ----------
        state : dict
            What `init_state` or an earlier step gave. The hyperparameters that count are those in
            ``state["hyper"]``, so that a compiled step serves all their values.
        grads, params : tree of arrays
            Gradients, None where there is none, and parameters.

        Returns
        -------
        params : tree of arrays
            New parameters.
        state : dict
            New state.

        Raises
        ------
        ValueError
            If gradients, parameters and state do not fit each other, ``state["hyper"]`` names what
            is no number of this optimizer, or with ``nonfinite="raise"`` where a compiler traces
            the step.
        """
        leaves, structure = flatten(params)
        described = checks.describe(leaves, structure)
        gradients, other = flatten(grads, "gradients")
        checks.same_structure(other, structure)
        checks.gradients(gradients, leaves, structure)
        old, assignment = self._held_in(state, structure, described)
        compiler = _compiler(leaves)
        gradients = list(self._thawed(gradients, assignment))
        values = self._traced_values(state, leaves)
        size = self._measure(values, gradients)
        norm = size.norm
        traced = compiler is not None and norm is not None and compiler.traced(norm)
        if traced and self.nonfinite == "raise":
            raise ValueError(
                'nonfinite="raise" cannot raise from a compiled step; use "skip" and read '
                'state["skipped"]'
            )
        if not traced and self._refuses(size, old.iterations):
            return params, {**state, "skipped": state["skipped"] + 1}
        xp = compiler.xp if compiler else np

        def totals(step: Step) -> dict[int, list[Scalar]]:
            given = self._limited([step], leaves, gradients)
            return measure(step, leaves, given, old.slots)

        steps, scalars = self._steps(values, old, assignment, size, xp, totals)
        gradients = list(self._limited(steps, leaves, gradients))
        new_leaves, new_slots = leaves, old.slots
        for step in steps:
            new_leaves, new_slots = sweep(step, new_leaves, gradients, new_slots, in_place=False)
        new = State(described, old.names, new_slots, scalars, old.iterations + 1, old.skipped)
        result = structure.build(new_leaves), new.to_tree(structure, state["hyper"])
        if not traced or self.nonfinite == "ignore":
            return result
        chosen: tuple[Tree, dict[str, Any]] = _selected(norm, (params, state), result)
        return chosen

    def stateless_observe(self, state: dict[str, Any], metric: Any) -> dict[str, Any]:
        """Feed a metric to every schedule that takes one, as a pure function; see `observe`.

        Parameters
        ----------
        state : dict
            What `init_state` or an earlier step gave.
        metric : float or 0-d array
            What `schedules.Plateau` watches; it may be a compiler's stand-in.

        Returns
        -------
        dict
            New state.

        Raises
        ------
        ValueError
            If no hyperparameter is such a schedule.
        """
        return {**state, "scalars": self._observed(state["scalars"], metric)}

    def _refuse_apart(self, leaves: Sequence[Array | None]) -> None:
        if any(map(operator.is_not, leaves, self._beside_state(leaves))):
            raise ValueError(
                "offload=True keeps the state of apply() in host memory; that of the pure form is "
                "with the parameters"
            )

    def _as_tree(
        self, state: State, structure: Structure, leaves: Sequence[Array | None]
    ) -> dict[str, Any]:
        """Give a state as a value, its numbers as arrays where a compiler may trace them."""
        tree = state.to_tree(structure, self._numbers())
        compiler = _compiler(leaves)
        return tree if compiler is None else with_arrays(tree, compiler.xp)

    def _held_in(
        self,
        state: dict[str, Any],
        structure: Structure,
        described: tuple[checks.Leaf | None, ...],
    ) -> tuple[State, Assignment]:
        """Give a state that is a value in the form that steps have, checked."""
        assignment = self._assign(described)
        flat = self._slot_leaves(state, structure, described, assignment.layouts)
        found = from_tree(state, described, flat)
        self._check_slots(found, assignment)
        return found, assignment

    def _numbers(self) -> dict[str, Any]:
        """Give every hyperparameter that is a number; those of group k with ``k.`` in front."""
        return {
            prefix + name: values[name]
            for prefix, formula, values in self._owners()
            for name in formula.hyperparameters
            if name in values
            and name not in STARTING
            and _is_number(formula.hyperparameters[name], values[name])
        }

    def _owners(self) -> list[tuple[str, Formula, dict[str, Any]]]:
        fixed = self._fixed()
        rows = enumerate(zip(fixed.formulas, fixed.values, strict=True))
        return [(f"{k}." if k else "", formula, values) for k, (formula, values) in rows]

    def _traced_values(
        self, state: dict[str, Any], leaves: Sequence[Array | None]
    ) -> list[dict[str, Any]]:
        """Give the hyperparameters of a step, which are those of the state where it has them."""
        self._require_known(state["hyper"])
        found, it, compiler = [], state["iterations"], _compiler(leaves)
        for prefix, formula, values in self._owners():
            row = {}
            for name, value in values.items():
                if prefix + name in state["hyper"]:
                    row[name] = state["hyper"][prefix + name]
                elif callable(value) and compiler is not None:
                    row[name] = value_at(value, it, state["scalars"], f"{prefix}{name}.")
                elif callable(value):
                    declared = formula.hyperparameters[name]
                    row[name] = declared.at(value, it, state["scalars"], prefix)
                else:
                    row[name] = value
            found.append(row)
        return found

    def _require_known(self, names: Iterable[str]) -> None:
        """Refuse numbers that no step reads; values may be a compiler's stand-ins."""
        known = {
            prefix + name: None
            for prefix, formula, values in self._owners()
            for name in values
            if formula.hyperparameters[name].numeric
        }
        for name in names:
            if name not in known:
                raise ValueError(
                    f'state["hyper"]: {type(self).__name__} has no number '
                    f"{name!r}{nearest(name, list(known))}; it has {', '.join(known)}"
                )

    def _slot_leaves(
        self,
        state: dict[str, Any],
        structure: Structure,
        described: Sequence[checks.Leaf | None],
        layouts: Sequence[Layout | None],
    ) -> dict[str, list[Array]]:
        flat = {}
        pairs = zip(described, layouts, strict=True)
        shapes = [o.shapes(leaf.shape, leaf.dtype) if leaf and o else {} for leaf, o in pairs]
        for name, tree in state["slots"].items():
            leaves, other = flatten(tree, f"slot {name!r}")
            if other.paths != structure.paths:
                raise ValueError(
                    f"slot {name!r} of the state has the leaves {list(other.paths)}, the "
                    f"parameters have {list(structure.paths)}"
                )
            for path, x, wanted in zip(structure.paths, leaves, shapes, strict=True):
                if x is not None and name in wanted and tuple(x.shape) != wanted[name]:
                    raise ValueError(
                        f"slot {name!r} of {named(path)}: found shape {tuple(x.shape)}, "
                        f"wanted {wanted[name]}"
                    )
            flat[name] = leaves
        return flat


def with_arrays(tree: dict[str, Any], xp: Namespace) -> dict[str, Any]:
    """Give a state whose numbers are arrays of a compiler's library."""
    kind, real = xp.asarray(0).dtype, xp.asarray(0.0).dtype
    tree = {**tree, **{k: xp.asarray(tree[k], dtype=kind) for k in ("iterations", "skipped")}}
    for group in ("hyper", "scalars"):
        tree[group] = {k: xp.asarray(v, dtype=real) for k, v in tree[group].items()}
    return tree


def _is_number(declared: Hyper, value: Any) -> bool:
    return declared.numeric and value is not None and not callable(value)


def _selected(norm: Array, old: Any, new: Any) -> Any:
    """Keep the old parameters and state where a gradient was not finite."""
    xp = backend_of(norm).xp
    params, state = old
    kept, _ = flatten((params, {**state, "skipped": state["skipped"] + 1}), "state")
    taken, structure = flatten(new, "state")
    finite = xp.isfinite(norm)
    chosen = [
        None if a is None else xp.where(finite, a, b) for a, b in zip(taken, kept, strict=True)
    ]
    return structure.build(chosen)


def _compiler(leaves: Sequence[Array | None]) -> Backend | None:
    """Give the library that may compile the step, if all arrays are of one."""
    backends = {backend_of(x) for x in leaves if x is not None}
    if len(backends) == 1:
        only = backends.pop()
        return only if only.compiles else None
    return None
