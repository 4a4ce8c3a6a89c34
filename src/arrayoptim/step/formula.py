"""What an author writes: the rule, its coefficients, and the initial state."""

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

    # Whether to warn where nobody keeps a result. Without an annotation, which type checkers
    # would take for a hyperparameter.
    results_count = True

    supplied: ClassVar[tuple[str, ...]] = ()
    """Slots that a step leaves as they are, as the caller brings them up to date."""

    @property
    def rests(self) -> bool:
        """Whether a parameter stays unchanged as long as all its gradients so far were zero."""
        return True

    @property
    @abstractmethod
    def rule(self) -> Rule:
        """The update rule."""

    def rule_for(self, path: str, shape: tuple[int, ...]) -> Rule:
        """Return the rule of one parameter, where parameters have different rules.

        Parameters
        ----------
        path : str
            The parameter's path.
        shape : tuple of int
            Its shape. Where the rule is of the kind ``"matrix"`` and the parameter complex, the
            rule is asked for again with ``()``, as for a number by itself.
        """
        return self.rule

    def words_for(self, rule: Rule) -> Mapping[str, str]:
        """Return which hyperparameters stand for those of the stages around one of its rules.

        Parameters
        ----------
        rule : Rule
            What `rule_for` has given for some parameters.

        Returns
        -------
        mapping of str to str
            By the name of an option that every optimizer takes the hyperparameter that counts in
            its place.
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
        """Return the initial scalar state, by name."""
        return {}

    def scalars_after(self, iterations: int) -> dict[str, float]:
        """Return the scalar state that follows from the step count alone, where a file lacks it.

        Parameters
        ----------
        iterations : int
            The number of steps taken with the present hyperparameters.
        """
        return {}

    def initial_slots(self) -> dict[str, Start]:
        """Return the initial values of slots, a number or ``"parameter"``; others begin with 0."""
        return {}

    def average(self, h: SimpleNamespace, p: Array, slots: Mapping[str, Array]) -> Array | None:
        """Return the point at which to evaluate, where the rule keeps one; for `averages`.

        Parameters
        ----------
        h : namespace
            The hyperparameters of the next step.
        p : array
            A parameter, in the compute dtype.
        slots : mapping of str to array
            The rule's slots of that parameter, in that type.
        """
        return None
