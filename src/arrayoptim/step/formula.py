"""The interface for authors of optimizers: rule, coefficients and initial state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import SimpleNamespace
from typing import ClassVar

from .._typing import Array, Namespace, Scalar
from ..numerics.slots import Start
from ..rules.rule import Rule
from .options import Options


class Formula(Options, ABC):
    """The part of `arrayoptim.Optimizer` that a subclass completes."""

    # Whether to warn when results are discarded. Not annotated, because type checkers would
    # take it for a hyperparameter.
    results_count = True

    supplied: ClassVar[tuple[str, ...]] = ()
    """Slots that a step does not write, because the caller updates them."""

    @property
    def rests(self) -> bool:
        """Whether a parameter does not change while all its gradients have been zero."""
        return True

    @property
    @abstractmethod
    def rule(self) -> Rule:
        """The update rule."""

    def rule_for(self, path: str, shape: tuple[int, ...]) -> Rule:
        """Return the rule of one parameter, for optimizers whose parameters have different rules.

        Parameters
        ----------
        path : str
            The parameter's path.
        shape : tuple of int
            Its shape. If the rule returned has the kind ``"matrix"`` and the parameter is complex,
            this is called again with ``()``, for the rule of a scalar.
        """
        return self.rule

    def words_for(self, rule: Rule) -> Mapping[str, str]:
        """Return hyperparameters that replace those of the stages around one of the rules.

        Parameters
        ----------
        rule : Rule
            A rule that `rule_for` has returned for some parameters.

        Returns
        -------
        mapping of str to str
            Maps the name of an option that every optimizer has to the name of the hyperparameter
            that takes its place.
        """
        return {}

    @abstractmethod
    def coefficients(
        self, h: SimpleNamespace, it: Scalar, scalars: Mapping[str, Scalar], xp: Namespace
    ) -> dict[str, Scalar]:
        """Compute the rule's coefficients for one step.

        Parameters
        ----------
        h : namespace
            The hyperparameters of this step; schedules are evaluated, and ``h.lr`` is decayed.
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
        """Return the initial scalar state, by name."""
        return {}

    def scalars_after(self, iterations: int) -> dict[str, float]:
        """Return the scalar state that follows from the step count alone, for files that lack it.

        Parameters
        ----------
        iterations : int
            The number of steps taken with the present hyperparameters.
        """
        return {}

    def initial_slots(self) -> dict[str, Start]:
        """Return the initial values of slots, numbers or ``"parameter"``; all others start at 0."""
        return {}

    def average(self, h: SimpleNamespace, p: Array, slots: Mapping[str, Array]) -> Array | None:
        """Return the point at which to evaluate, for rules that keep an average; see `averages`.

        Parameters
        ----------
        h : namespace
            The hyperparameters of the next step.
        p : array
            A parameter, in the compute dtype.
        slots : mapping of str to array
            The rule's slots of that parameter, in the compute dtype.
        """
        return None
