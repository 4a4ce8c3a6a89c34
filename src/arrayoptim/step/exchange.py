"""Between the two forms of an optimizer: with state of its own, and with state as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from .._typing import Tree
from ..arrays.libraries import backend_of
from ..arrays.torch import recording
from ..arrays.trees import flatten
from . import checks
from .averages import Averaging
from .functional import Functional
from .persistent import Persistent
from .restore import LoadReport

TABLES = ("hyper", "scalars", "slots")
KEYS = {"iterations", "skipped", *TABLES}
"""What a state consists of."""


class Exchanging(Functional, Averaging, Persistent):
    """The part of `arrayoptim.Optimizer` that both forms share."""

    def load_state(self, state: Any, params: Tree, strict: bool = True) -> LoadReport:
        """Take over a state of the pure form, to save it or to go on with `apply`.

        Parameters
        ----------
        state : dict
            What `init_state` or `stateless_apply` gave, with arrays of any library.
        params : tree of arrays
            The parameters.
        strict : bool
            Whether every difference between the state and the parameters is an error.

        Returns
        -------
        LoadReport
            What was restored, and what not.

        Raises
        ------
        ValueError
            If the state does not fit the parameters, or a group has another number in it. Nothing
            has changed then.
        """
        from .. import persistence

        parts = set(state) if isinstance(state, Mapping) else set()
        if not (parts >= KEYS and all(isinstance(state[name], Mapping) for name in TABLES)):
            found = ", ".join(sorted(map(str, parts))) or type(state).__name__
            raise ValueError(
                f"load_state: found {found}, wanted what init_state() gives, the numbers and dicts "
                f"{', '.join(sorted(KEYS))}"
            )
        self._require_known(state["hyper"])
        slots = {name: _by_path(name, tree) for name, tree in state["slots"].items()}
        record = persistence.Record(
            source="arrayoptim",
            class_name=None,
            config=None,
            iterations=int(state["iterations"]),
            scalars={name: float(x) for name, x in state["scalars"].items()},
            slots={name: list(found.values()) for name, found in slots.items()},
            paths={name: list(found) for name, found in slots.items()},
            skipped=int(state["skipped"]),
            origin="the state",
        )
        numbers = {k: float(v) for k, v in state["hyper"].items() if self._changed(k, v)}
        return self._load_into(params, record, strict=strict, numbers=numbers)

    def export_state(self, params: Tree) -> dict[str, Any]:
        """Give the state as a value, to go on with `stateless_apply`.

        Parameters
        ----------
        params : tree of arrays
            The parameters.

        Returns
        -------
        dict
            As from `init_state`, with copies of the slots.

        Raises
        ------
        ValueError
            If there is no state yet, or it is of other parameters.
        """
        leaves, structure = flatten(params)
        with self._lock:
            self._require_state()
            self._refuse_apart(leaves)
            state = self._ready(leaves, structure)
            slots = [{k: backend_of(x).copy(x) for k, x in held.items()} for held in state.slots]
            return self._as_tree(replace(state, slots=slots), structure, leaves)

    def stateless_averages(self, state: dict[str, Any], params: Tree) -> Tree:
        """Give the averages of the parameters as a pure function; see `averages`.

        Parameters
        ----------
        state : dict
            What `init_state` or an earlier step gave.
        params : tree of arrays
            The parameters.

        Returns
        -------
        tree of arrays
            New arrays.

        Raises
        ------
        ValueError
            If there are no averages, or parameters and state do not fit each other.
        """
        with recording((), params, state):
            leaves, structure = flatten(params)
            described = checks.describe(leaves, structure)
            old, assignment = self._held_in(state, structure, described)
            values = self._traced_values(state, leaves)
            return self._averaged(old, assignment, values, leaves, structure)

    def _changed(self, key: str, value: Any) -> bool:
        """Whether a number of a state is another than the optimizer's, to the state's precision."""
        group, _, name = key.rpartition(".")
        ours = self._fixed().values[int(group or 0)].get(name)
        same = not callable(ours) and np.asarray(ours, np.asarray(value).dtype) == np.asarray(value)
        if same:
            return False
        if group:
            raise ValueError(
                f"group {group}: found {name}={float(value)!r} in the state and {ours!r} in the "
                "optimizer; set it there first"
            )
        return True


def _by_path(name: str, tree: Tree) -> dict[str, Any]:
    """Give the arrays of a slot on the host, by the paths of their parameters."""
    leaves, structure = flatten(tree, f"slot {name!r}")
    pairs = zip(structure.paths, leaves, strict=True)
    return {path: backend_of(x).to_host(x) for path, x in pairs if x is not None}
