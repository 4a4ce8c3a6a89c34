"""What makes an optimizer: its rule, and the numbers of one step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from ._options import Options
from ._rounding import step_seed
from ._rule import Rule
from ._state import State
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

    def _host_step(
        self, values: dict[str, Any], state: State, norm: Scalar | None
    ) -> tuple[Step, dict[str, Scalar]]:
        return self._step(values, state, norm, np)

    def _step(
        self, values: dict[str, Any], state: State, norm: Scalar | None, xp: Namespace
    ) -> tuple[Step, dict[str, Scalar]]:
        """Compute everything of a step that does not depend on the single array."""
        h = SimpleNamespace(**values)
        if "decay" in values:
            h.lr = h.lr / (1.0 + h.decay * state.iterations)
        with np.errstate(all="ignore"):
            found = self.coefficients(h, state.iterations, state.scalars, xp)
        if xp is np:
            found = {name: float(value) for name, value in found.items()}
        scalars = {name: found.pop(name) for name in state.scalars}
        values, each = self._stage_values(h, norm, state.paths, xp)
        by_chance = self.stochastic_rounding and self.state_dtype is not None
        if by_chance and xp is not np:
            raise ValueError("stochastic rounding does not serve a compiled step")
        seed = step_seed(self.seed, state.iterations) if by_chance else None
        return Step(self._layout(self.rule), found | values, each, seed), scalars
