"""L-BFGS as pure functions, which compilers can trace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._typing import Array, Tree
from ..arrays.trees import Structure, flatten
from ..config.spoken import part_of
from ..step import checks
from .boxes import boxed
from .packing import Packing, packing
from .searches import Box, begun, losses, named, several, told
from .state_layout import POINT, STATE, Settings

ALL = "wanted all of them, as one step of LBFGS moves all; leave out the parameter, or give zeros"


@part_of("arrayoptim.search.lbfgs", "LBFGS")
class Pure:
    """The functional part of `LBFGS`, whose state is a value."""

    _memory: int
    _settings: Settings
    _box: tuple[Any, Any]
    _batched: bool

    def init_state(self, params: Tree) -> dict[str, Any]:
        """Return the state before the first evaluation, as a value.

        Parameters
        ----------
        params : tree of arrays
            The parameters, which may be tracers.

        Returns
        -------
        dict
            Arrays by name. ``state["stage"]`` is at least 3 once a search has ended.
        """
        _, leaves, packed, box = self._unpacked(params)
        words, vector = several(packed, leaves), packed.vector(leaves)
        return named(begun(words, vector, self._memory, box))

    def stateless_apply(
        self, state: dict[str, Any], grads: Tree, params: Tree, value: Any
    ) -> tuple[Tree, dict[str, Any]]:
        """Process an evaluation as a pure function, which ``jax.jit`` can compile.

        Parameters
        ----------
        state : dict
            The result of `init_state` or an earlier call.
        grads, params : tree of arrays
            Gradients and parameters.
        value : float or array
            The loss at the parameters.

        Returns
        -------
        params : tree of arrays
            The next trial point.
        state : dict
            The new state.
        """
        structure, leaves, packed, box = self._unpacked(params)
        gradients, other = flatten(grads, "gradients")
        checks.same_structure(other, structure)
        checks.gradients(gradients, leaves, structure)
        checks.every_gradient(gradients, leaves, structure, ALL)
        words, known = several(packed, leaves), {k: state[name] for k, name in enumerate(STATE)}
        with words.quiet():
            number, gradient = losses(words, packed, value, leaves), packed.vector(gradients)
            new, trial = told(words, known, number, gradient, self._settings, box)
        return structure.build(packed.parts(trial, leaves)), named(new)

    def stateless_best(self, state: dict[str, Any], params: Tree) -> Tree:
        """Return the best accepted point, as a pure function.

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
        return structure.build(packed.parts(state[STATE[POINT]], leaves))

    def _unpacked(self, params: Tree) -> tuple[Structure, Sequence[Array], Packing, Box]:
        leaves, structure = flatten(params)
        found = checks.describe(leaves, structure)
        packed = packing(leaves, found, structure, self._batched)
        return structure, leaves, packed, boxed(self._box, packed, leaves, structure)
