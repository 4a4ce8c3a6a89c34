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
    """The part of `arrayoptim.Optimizer` whose state is a value."""

    _session: Session

    @property
    def _pure(self) -> Any:
        """What computes it: of one model, or mapped over many."""
        return pure if self._session.settings.models is None else pure_per_model

    def init_state(self, params: Tree) -> dict[str, Any]:
        """Make the state before the first step, as a value.

        Parameters
        ----------
        params : tree of arrays
            The parameters, which may be tracers.

        Returns
        -------
        dict
            A tree of numbers and arrays: ``iterations``, ``skipped``, ``hyper`` (every
            hyperparameter that is a number and counts in a step), ``scalars`` and ``slots``, each
            slot a tree like `params`. For JAX parameters all of them are JAX arrays.
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
            the step or it is differentiated.

        Notes
        -----
        JAX, TensorFlow and torch differentiate through a step, by all that it is given: gradients,
        parameters, slots and the numbers in ``state["hyper"]``. torch does under ``torch.func``, or
        where gradients are recorded and one of these requires them, other than a parameter that is
        no result itself; ``torch.no_grad()`` keeps it from that.
        """
        found: tuple[Tree, dict[str, Any]] = self._pure.step(
            self._session.settings, state, grads, params
        )
        return found

    def stateless_observe(self, state: dict[str, Any], metric: Any) -> dict[str, Any]:
        """Feed a metric to every schedule that takes one, as a pure function; see `observe`.

        Parameters
        ----------
        state : dict
            What `init_state` or an earlier step gave.
        metric : float or 0-d array
            What `schedules.Plateau` watches; it may be a tracer.

        Returns
        -------
        dict
            New state.

        Raises
        ------
        ValueError
            If no hyperparameter is such a schedule.
        """
        return {**state, "scalars": self._session.settings.observed(state["scalars"], metric)}

    def stateless_tell_loss(self, state: dict[str, Any], loss: Any) -> dict[str, Any]:
        """Tell the loss of the next step, as a pure function; see `Optimizer.tell_loss`.

        Parameters
        ----------
        state : dict
            What `init_state` or an earlier step gave.
        loss : float or 0-d array
            The loss; it may be a tracer. A step of JAX or TensorFlow arrays that was told
            none is not judged by it.

        Returns
        -------
        dict
            New state.

        Raises
        ------
        TypeError
            If it is no single number.
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
        return self._pure.averages(self._session.settings, state, params)

    def load_state(self, state: Any, params: Tree, strict: bool = True) -> LoadReport:
        """Adopt a state of the pure form, to save it or to continue with `apply`.

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
            If there is no state yet, or it is of other parameters.
        """
        state: dict[str, Any] = self._pure.export(self._session, params)
        return state

    # ---- one model of many

    def take_model(self, model: int) -> Any:
        """Return one of many models' optimizer, with a copy of its state.

        Parameters
        ----------
        model : int in [0, models)
            The number of the model.

        Returns
        -------
        Optimizer
            One of the same class for that model alone: its hyperparameters, its state, its count.
            It steps arrays like ``w[model]``, and may be saved.

        Raises
        ------
        ValueError
            If this is no optimizer of many models, there is no such one, or no state yet.
        """
        with self._session.lock:
            return population.taken_out(self._session, model)

    def put_model(self, model: int, optimizer: Any) -> None:
        """Copy the state and hyperparameters of an optimizer into one of many models.

        Parameters
        ----------
        model : int in [0, models)
            The number of the model that takes them over.
        optimizer : Optimizer
            One of this class for one model, such as `take_model` gives; it stays as it is. The
            parameters are the caller's to copy.

        Raises
        ------
        ValueError
            If there is no such model, or the optimizer's state is not one of such parameters, or it
            differs in what all models share. Nothing has changed then.
        """
        with self._session.lock:
            population.put_in(self._session, model, optimizer)
