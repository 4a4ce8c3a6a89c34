"""The pure form of an optimizer: its state is a value, and a step a function of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._typing import Tree
from ..config.spoken import part_of
from . import metrics, population, pure, pure_per_model
from .restore import LoadReport

if TYPE_CHECKING:
    from .session import Session


@part_of("arrayoptim.optimizer", "Optimizer")
class Valued:
    """Methods of the pure form of `arrayoptim.Optimizer`."""

    _session: Session

    @property
    def _pure(self) -> Any:
        """The module that implements it: for one model, or mapped over many."""
        return pure if self._session.settings.models is None else pure_per_model

    def init_state(self, params: Tree) -> dict[str, Any]:
        """Return the state before the first step, as a value.

        Parameters
        ----------
        params : tree of arrays
            The parameters, which may be tracers.

        Returns
        -------
        dict
            A tree of numbers and arrays: ``iterations``, ``skipped``, ``hyper`` (all numeric
            hyperparameters that a step reads), ``scalars``, and ``slots``, each slot a tree like
            `params`. For JAX parameters, all leaves are JAX arrays.
        """
        state: dict[str, Any] = self._pure.initial(self._session, params)
        return state

    def stateless_apply(
        self, state: dict[str, Any], grads: Tree, params: Tree
    ) -> tuple[Tree, dict[str, Any]]:
        """Take one step as a pure function.

        Parameters
        ----------
        state : dict
            As from `init_state` or an earlier step. The hyperparameters used are those in
            ``state["hyper"]``, so a compiled step works for all their values.
        grads, params : tree of arrays
            Gradients, with None for parameters without one, and parameters.

        Returns
        -------
        params : tree of arrays
            New parameters.
        state : dict
            New state.

        Raises
        ------
        ValueError
            If gradients, parameters and state do not fit each other, ``state["hyper"]`` has a key
            that is not a numeric hyperparameter of this optimizer, or the step is traced or
            differentiated with ``nonfinite="raise"``.

        Notes
        -----
        JAX, TensorFlow and torch differentiate through a step, with respect to all its inputs:
        gradients, parameters, slots and the numbers in ``state["hyper"]``. With torch, this
        happens under ``torch.func``, or in grad mode if an input requires gradients that is not a
        leaf parameter; ``torch.no_grad()`` prevents it.
        """
        found: tuple[Tree, dict[str, Any]] = self._pure.step(
            self._session.settings, state, grads, params
        )
        return found

    def stateless_observe(self, state: dict[str, Any], metric: Any) -> dict[str, Any]:
        """Pass a metric to every schedule that takes one, as a pure function; see `observe`.

        Parameters
        ----------
        state : dict
            As from `init_state` or an earlier step.
        metric : float or 0-d array
            The metric that `schedules.Plateau` watches; may be a tracer.

        Returns
        -------
        dict
            New state.

        Raises
        ------
        ValueError
            If no hyperparameter is a schedule that takes a metric.
        """
        return {**state, "scalars": self._session.settings.observed(state["scalars"], metric)}

    def stateless_tell_loss(self, state: dict[str, Any], loss: Any) -> dict[str, Any]:
        """Pass the loss of the next step, as a pure function; see `Optimizer.tell_loss`.

        Parameters
        ----------
        state : dict
            As from `init_state` or an earlier step.
        loss : float or 0-d array
            The loss; may be a tracer. For JAX and TensorFlow arrays, a step without a loss is not
            judged by it.

        Returns
        -------
        dict
            New state.

        Raises
        ------
        TypeError
            If it is not a single number.
        ValueError
            If ``skip_loss_spikes`` is None.
        """
        found: dict[str, Any] = metrics.told_in_state(self._session, state, loss)
        return found

    def stateless_averages(self, state: dict[str, Any], params: Tree) -> Tree:
        """Return the averages of the parameters as a pure function; see `averages`.

        Parameters
        ----------
        state : dict
            As from `init_state` or an earlier step.
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
        return self._pure.averages(self._session.settings, state, params)

    def load_state(self, state: Any, params: Tree, strict: bool = True) -> LoadReport:
        """Adopt a state of the pure form, to save it or to continue with `apply`.

        Parameters
        ----------
        state : dict
            As from `init_state` or `stateless_apply`, with arrays of any library.
        params : tree of arrays
            The parameters.
        strict : bool
            Whether every difference between the state and the parameters is an error.

        Returns
        -------
        LoadReport
            What was restored, and what was not.

        Raises
        ------
        ValueError
            If the state does not fit the parameters, or its value of a group's hyperparameter
            differs from the group's. Nothing has changed then.
        """
        found: LoadReport = self._pure.load(self._session, state, params, strict)
        return found

    def export_state(self, params: Tree) -> dict[str, Any]:
        """Return the state as a value, to continue with `stateless_apply`.

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
            If there is no state yet, or it belongs to other parameters.
        """
        state: dict[str, Any] = self._pure.export(self._session, params)
        return state

    # ---- one model of many

    def take_model(self, model: int) -> Any:
        """Return one of many models as an optimizer of its own, with a copy of its state.

        Parameters
        ----------
        model : int in [0, models)
            The index of the model.

        Returns
        -------
        Optimizer
            An optimizer of the same class for that model alone, with its hyperparameters, state and
            step count. It steps arrays like ``w[model]``, and can be saved.

        Raises
        ------
        ValueError
            If this optimizer has no `models`, no model with that index, or no state yet.
        """
        with self._session.lock:
            return population.taken_out(self._session, model)

    def put_model(self, model: int, optimizer: Any) -> None:
        """Copy the state and hyperparameters of an optimizer into one of many models.

        Parameters
        ----------
        model : int in [0, models)
            The index of the model to overwrite.
        optimizer : Optimizer
            An optimizer of this class for one model, such as from `take_model`; it is not changed.
            Copying the parameters is left to the caller.

        Raises
        ------
        ValueError
            If there is no such model, the optimizer's state does not fit its parameters, or a
            hyperparameter that all models share differs. Nothing has changed then.
        """
        with self._session.lock:
            population.put_in(self._session, model, optimizer)
