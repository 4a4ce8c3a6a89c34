"""What makes an optimizer: its rule, and the numbers of one step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from ._backend import COMPUTE
from ._options import Options
from ._rounding import step_seed
from ._rule import Rule
from ._state import State
from ._storage import Start
from ._typing import Array, Namespace, Scalar
from .engines import Prepared, Step
from .gradients import global_norm


class Formula(Options, ABC):
    """The part of `arrayoptim.Optimizer` that a subclass completes, and that computes a step."""

    @property
    @abstractmethod
    def rule(self) -> Rule:
        """The update rule."""

    @abstractmethod
    def coefficients(
        self, h: SimpleNamespace, it: Scalar, scalars: Mapping[str, Scalar], xp: Namespace
    ) -> dict[str, Scalar]:
        """Compute the rule's coefficients for one step.

        Parameters
        ----------
        h : namespace
            The hyperparameters of this step; schedules are numbers here, and ``h.lr`` is decayed.
        it : int
            Steps taken before this one.
        scalars : mapping
            Scalar state, see `initial_scalars`.
        xp : module
            Array functions for scalars: `numpy`, or ``jax.numpy`` while a step is traced.

        Returns
        -------
        dict
            Each coefficient of the rule by name, and the next value of each scalar state.
        """

    def initial_scalars(self) -> dict[str, float]:
        """Give the state that is one number, by name, as it is before the first step."""
        return {}

    def initial_slots(self) -> dict[str, Start]:
        """Give what slots begin with: a number, or ``"parameter"``; the others begin with zeros."""
        return {}

    # ---- one step

    def _norm(
        self,
        values: dict[str, Any],
        gradients: Sequence[Array | None],
        prepared: Prepared | None = None,
    ) -> Scalar | None:
        """Give the global norm of the gradients where a stage of the step needs it."""
        if values["clipnorm"] is None and self.nonfinite == "ignore":
            return None
        return global_norm(gradients, prepared.squares(gradients) if prepared else {})

    def _refuses(self, norm: Scalar, iterations: int) -> bool:
        if self.nonfinite == "ignore" or np.isfinite(float(norm)):
            return False
        if self.nonfinite == "raise":
            raise ValueError(
                f"{self.name or type(self).__name__}: a gradient has a NaN or infinite entry at "
                f"step {iterations}; nothing has changed"
            )
        return True

    def _step(
        self, values: dict[str, Any], state: State, norm: Scalar | None, xp: Namespace
    ) -> tuple[Step, dict[str, Scalar]]:
        """Compute everything of a step that does not depend on the single array.

        For each type of arithmetic the hyperparameters are rounded to it first, and only then
        combined, in double precision: so 1 - beta is the complement of the beta that an array is
        multiplied with, and the weights of a moving average add up to 1 in float32 too.
        """
        if "decay" in values:
            values = values | {"lr": values["lr"] / (1.0 + values["decay"] * state.iterations)}
        scalars: dict[str, Scalar] = {}
        if state.scalars:
            found = self._found(SimpleNamespace(**values), state, xp)
            scalars = {name: found[name] for name in state.scalars}
        numbers = {}
        for compute in {COMPUTE[leaf.dtype] for leaf in state.leaves if leaf}:
            h = SimpleNamespace(
                **{k: self.hyperparameters[k].rounded(v, compute, xp) for k, v in values.items()}
            )
            found = self._found(h, state, xp)
            coefficients = {name: found[name] for name in found if name not in scalars}
            numbers[compute] = coefficients | self._stage_values(h, norm, state.paths, xp)
        by_chance = self.stochastic_rounding and self.state_dtype is not None
        if by_chance and xp is not np:
            raise ValueError("stochastic rounding does not serve a compiled step")
        seed = step_seed(self.seed, state.iterations) if by_chance else None
        return Step(self._layout(self.rule), numbers, seed), scalars

    def _found(self, h: SimpleNamespace, state: State, xp: Namespace) -> dict[str, Scalar]:
        with np.errstate(all="ignore"):
            found = self.coefficients(h, state.iterations, state.scalars, xp)
        return {k: float(v) for k, v in found.items()} if xp is np else found
