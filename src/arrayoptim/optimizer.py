"""The base class of every optimizer."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ._typing import Scalar, Tree
from .arrays.derivatives import gradients_of
from .config.hyper import hyper
from .config.keras import translate
from .config.other_libraries import argument, method
from .config.readable import readable
from .config.registry import mistyped, nearest, refuse_nested
from .config.validation import counter, finite
from .step import checks, graphs, metrics, save_and_load, updates
from .step.averages import averages_of
from .step.formula import Formula
from .step.pure_methods import Valued
from .step.report import StepReport, report
from .step.restore import LoadReport
from .step.session import Session
from .step.shared_methods import Surface
from .step.summary import Summary, summarized
from .step.updates import StateTarget, Updating

if TYPE_CHECKING:
    from typing_extensions import Self

    from . import persistence
    from .config.typed import Number

__all__ = ["Optimizer"]


_CHECKED = ("cautious", "corrected_decay", "cautious_decay", "groups")
"""What may not go with a rule, or with other hyperparameters."""


class Optimizer(Formula, Valued, Updating, Surface):
    """Base of every optimizer.

    A subclass declares its hyperparameters with `hyper`, names its `rule` and computes its
    `coefficients`; all else is here.

    Parameters
    ----------
    clipnorm : float in [0, inf], optional
        Bound on the Euclidean norm of all gradients together, as in Keras 2; 0 or None for none.
    clipvalue : float in [0, inf], optional
        Bound on the magnitude of each entry of a gradient, after `clipnorm`; 0 or None for none.
    clipnorm_per_tensor : float in [0, inf], optional
        Bound on the norm of each gradient, after `clipnorm`, as Keras 3's ``clipnorm``; 0 or None
        for none.
    agc : float in [0, inf], optional
        Adaptive gradient clipping: bound on the norm of a unit's gradient, in multiples of the
        unit's own norm; 0 or None for none.
    agc_units : {"last", "first", "tensor"}
        Which axis counts the units of `agc`: the last, as for kernels of Keras and JAX, the first,
        as for weights of torch; or each tensor is one.
    weight_decay : float in [0, inf) or schedule, optional
        Decoupled weight decay: a step first takes ``lr`` times this share of the parameter.
    peak_lr : float in (0, inf), optional
        The learning rate at its peak. Where it is given weight decay is fully decoupled: a step
        takes ``lr / peak_lr`` times `weight_decay`.
    corrected_decay : bool
        Whether that is multiplied by ``lr / peak_lr`` once more: a step takes ``lr**2 / peak_lr``
        times `weight_decay`, as in AdamC; for layers that a normalisation follows.
    cautious_decay : bool
        Whether `weight_decay` spares the entries that the step moves away from zero.
    l2 : float in [0, inf) or schedule, optional
        Coupled weight decay: this times the parameter is added to the clipped gradient.
    exclude : str or sequence of str
        Patterns of the paths of parameters that neither decay touches, as for file names.
    constraint : Constraint, str or dict, optional
        What parameters are brought back to after the step: one of `constraints`, its name or its
        configuration.
    groups : sequence of Group
        Parameters with settings of their own, each described by `group`.
    ema_momentum : float in [0, 1) or schedule, optional
        Decay rate of a moving average of the parameters, which `averages` gives; one more slot.
    cautious : bool
        Whether a step leaves out the entries that it would move against their own gradient, and
        scales up the others to make up for it, tensor by tensor. Costs a pass over the arrays.
    preset : {"keras2", "keras3", "optax", "paper", "torch"}, optional
        Whose formula is computed, with whose defaults. Hyperparameters keep the names and meanings
        that they have here. A class has those that its page names.
    name : str, optional
        A name of the caller's choice.
    nonfinite : {"ignore", "raise", "skip"}
        What happens when a gradient has a NaN or infinite entry: arithmetic takes its course, the
        step raises a ValueError, or the step is left out whole and counted in `skipped`.
    skip_spikes : float in (0, inf), optional
        Steps are left out, and counted in ``spikes``, whose global norm of the gradients is this
        many standard deviations over the mean of recent ones, or not finite where `nonfinite` says
        nothing else. Four numbers of state.
    skip_loss_spikes : float in (0, inf), optional
        The same of the loss that `tell_loss` tells before each step, and `minimize` by itself. Six
        numbers of state.
    spike_window : int in [2, inf)
        Steps over which mean and deviation are taken, half of them before the first is left out.
    measure : sequence of {"gradient", "update", "weight"}
        Whose norm `last_step` gives for each parameter. ``"gradient"`` costs a pass over the
        gradients, ``"weight"`` one over the parameters, ``"update"`` a copy of them too.
    master : bool
        Whether a float16 or bfloat16 parameter keeps its float32 value as another slot. Without it
        steps smaller than half the parameter's resolution are lost.
    kahan : bool
        Whether a 16-bit parameter keeps what its rounding loses, in 16 bits, instead of a master.
    state_dtype : {"bfloat16", "int8"}, optional
        Form in which the rule's slots are stored: 2 bytes, or 1 byte in blocks that share an
        exponent, in place of 4. Slots of other shapes than the parameter's stay in 4.
    stochastic_rounding : bool
        Whether slots in that form are rounded up or down at random, so that they are right in the
        mean. Small changes of a slot are lost otherwise. Not for JAX arrays.
    seed : int
        Seed of stochastic rounding; the random bits follow from it, the step and the place.
    offload : bool
        Whether parameters on a GPU have their state in host memory, where the CPU engine steps
        them; see the page on engines.
    sparse : {"exact", "lazy"}, optional
        What a sparse gradient steps: all of the parameter, as the same gradient in dense form does,
        or only those rows that it has, with their slots. None is ``"exact"``, except that torch's
        classes refuse what torch's own refuse; see the page on sparse gradients.
    models : int in [1, inf), optional
        Number of models that are stepped at once: the first axis of every parameter counts them,
        and hyperparameters may be a list or an array with a number or schedule for each. See the
        page on many models.
    threads : int in [1, inf), optional
        Threads of the CPU engine; by default as many as Numba uses. Results do not depend on it.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Make an optimizer without state."""
        self = super().__new__(cls)
        self._begin()
        return self

    def _begin(self) -> None:
        # Annotated here, not in the class: type checkers would take it for a hyperparameter there.
        self._session: Session = Session(self)

    def __getstate__(self) -> dict[str, Any]:
        """Return everything but what cannot be pickled, such as the lock."""
        return dict(vars(self))

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state, with a new lock."""
        vars(self).update(state)
        self._session = state["_session"].copy(self)

    def _set(self, values: dict[str, Any]) -> None:
        super()._set(values)
        if any(self._hyper[name] for name in _CHECKED):
            self._session.settings.require_sound()

    # ---- stepping

    def init(self, params: Tree) -> None:
        """Make the state for a tree of parameters; `build` is the same.

        Raises
        ------
        TypeError
            If a leaf is no array of a floating-point or complex type.
        ValueError
            If two parameters share memory, or the state was made for another tree.
        """
        with self._lock:
            self._session.ready(*self._session.flat(params))

    build = init

    def apply(self, grads: Tree, params: Tree) -> Tree:
        """Take one step.

        Parameters
        ----------
        grads : tree of arrays
            The gradients, structured like `params`. None leaves its parameter alone.
        params : tree of arrays, or one array
            NumPy, CuPy and torch arrays are updated in place.

        Returns
        -------
        tree
            `params` itself where all were updated in place; otherwise a tree of the same
            structure with new arrays in place of those that cannot be written.

        Raises
        ------
        TypeError
            If an array is of a type that cannot be stepped.
        ValueError
            If gradients and parameters do not fit each other, or the parameters the state. Nothing
            has changed then.
        """
        try:
            return self._session.step(grads, params)
        except BaseException:
            self._session.untell()
            raise

    def observe(self, metric: Any) -> None:
        """Feed a metric, such as a validation loss, to every schedule that takes one.

        Parameters
        ----------
        metric : float, or with `models` a sequence of float
            What `schedules.Plateau` watches: for all, or for each model.

        Raises
        ------
        TypeError
            If it is no number.
        ValueError
            If no hyperparameter is such a schedule, or there is no state yet.
        """
        metrics.observe(self._session, metric)

    def tell_loss(self, loss: Any) -> None:
        """Tell the loss of the next step, the one that its gradients are of.

        `skip_loss_spikes` judges it. `minimize` tells it by itself. Where the step raises, the loss
        is forgotten.

        Parameters
        ----------
        loss : float or 0-d array
            The loss, not multiplied by a loss scale. Of several that a step is told the mean
            counts, as of the gradients of several calls with `GradientAccumulation`. Where several
            processes take the same step, all have to be told the same.

        Raises
        ------
        TypeError
            If it is no real number.
        ValueError
            If `skip_loss_spikes` is None.

        Examples
        --------
        >>> import numpy as np
        >>> import arrayoptim as ao
        >>> p, optimizer = np.zeros(1), ao.SGD(lr=1.0, skip_loss_spikes=6.0, spike_window=4)
        >>> for loss in (2.0, 1.9, 1.8, 90.0, 1.7):
        ...     optimizer.tell_loss(loss)
        ...     _ = optimizer.apply(np.ones(1), p)
        >>> optimizer.iterations, optimizer.spikes
        (4, 1.0)
        """
        metrics.tell(self._session, loss)

    def _hear(self, value: Scalar) -> None:
        if self._session.settings.loss_guarded:
            metrics.tell(self._session, value)

    def capture(self, params: Tree) -> graphs.CapturedStep:
        """Prepare a step for a CUDA graph.

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
        return graphs.capture(self._session, params)

    def averages(self, params: Tree) -> Tree:
        """Return the averages of the parameters, the points to evaluate.

        They are the moving averages that `ema_momentum` asks for; without it those of the rule,
        which `ASGD`, `ScheduleFreeSGD` and `ScheduleFreeAdamW` have.

        Parameters
        ----------
        params : tree of arrays
            The parameters; they stay as they are.

        Returns
        -------
        tree of arrays
            New arrays, structured like `params` and of their dtypes. A parameter in a group
            whose optimizer keeps no average is its own.

        Raises
        ------
        ValueError
            If `ema_momentum` is None and no rule keeps an average, or there is no state yet.
        """
        session = self._session
        with session.lock:
            leaves, structure = session.flat(params)
            session.require_state()
            state = session.ready(leaves, structure)
            values = session.settings.at(state.iterations, state.scalars)
            return averages_of(session.plan, state, values, leaves, structure)

    # ---- gradients and updates of a loss

    def get_gradients(self, loss: Any, params: Tree) -> Tree:
        """Differentiate a loss, and clip as a step would.

        Parameters
        ----------
        loss : torch.Tensor or callable
            A torch scalar, or a function of the parameters that gives a scalar (torch, JAX, or
            NumPy with the autograd package) or the pair ``(value, gradients)``.
        params : tree of arrays
            The parameters.

        Returns
        -------
        tree of arrays
            Clipped gradients, structured like `params`.

        Raises
        ------
        TypeError
            If `loss` is neither, or nothing can differentiate it.
        ValueError
            If it does not depend on a parameter.
        """
        grads, leaves, structure = gradients_of(loss, params)
        checks.gradients(grads, leaves, structure)
        split, _ = self._session.pieces(grads, structure)
        pieces, stack = self._session.pieces(leaves, structure)
        return stack.build(updates.clipped(self._session, split, pieces, stack))

    def get_updates(self, params: Tree, loss: Any) -> list[tuple[Any, Any]]:
        """Compute a whole step and change nothing.

        Parameters
        ----------
        params : tree of arrays
            The parameters.
        loss : torch.Tensor or callable
            See `get_gradients`. The two may come in either order, as Keras 2 and natural_bm have
            it.

        Returns
        -------
        list of (target, new value)
            First ``iterations``, scalar state and slots, each with a `StateTarget`, then the
            parameters, each with the parameter itself. `apply_updates` carries them out.
        """
        if updates.is_loss(params) and not updates.is_loss(loss):
            params, loss = loss, params
        return updates.updates_of(self._session, params, loss)

    def _put(self, target: StateTarget, value: Any) -> None:
        updates.put(self._session, target, value)

    # ---- the state

    @property
    def built(self) -> bool:
        """Whether the state has been made."""
        return self._session.state is not None

    @property
    def iterations(self) -> int:
        """Number of steps taken; it always counts, and may be set."""
        return self._session.iterations

    @iterations.setter
    def iterations(self, value: int) -> None:
        number = counter(value, f"{type(self).__name__}.iterations")
        if self._session.state:
            self._session.state.count(number)
        else:
            self._session.first_iteration = number

    @property
    def skipped(self) -> int:
        """Number of steps skipped because a gradient was not finite."""
        state = self._session.state
        return int(state.skipped) if state else 0

    @property
    def last_step(self) -> StepReport | None:
        """What the last call of `apply` did; None before the first.

        It is put together when it is read, which is when a norm is fetched from a GPU.
        """
        last = self._session.last
        return None if last is None else report(last)

    def summary(self, params: Tree) -> Summary:
        """Return what state there is, or will be, for some parameters, array by array.

        Parameters
        ----------
        params : tree of arrays
            The parameters, of which only paths, shapes and dtypes are read.

        Returns
        -------
        Summary
            Printing it gives a table; ``bytes`` is the memory of all of it.

        Raises
        ------
        TypeError, ValueError
            If they cannot be stepped, or the optimizer has the state of others.

        Examples
        --------
        >>> import numpy as np
        >>> import arrayoptim as ao
        >>> print(ao.Adam(state_dtype="bfloat16").summary({"w": np.zeros((2, 3), np.float32)}))
        Adam(lr=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-08, decay=0.0, state_dtype='bfloat16')
        parameter   shape   dtype     bytes of state
        w           (2, 3)  float32               24
          momentum  (2, 3)  bfloat16              12
          velocity  (2, 3)  bfloat16              12
        1 parameter of 6 entries in 24 bytes; 2 arrays of state in 24 bytes beside the parameters
        """
        return summarized(self._session, params, repr(self))

    def reset(self) -> None:
        """Forget all state, including loaded state not yet used; the hyperparameters stay."""
        self._session.reset()

    @property
    def weights(self) -> list[Any]:
        """The state's own arrays, in the order of `get_weights`; empty before `init`."""
        state = self._session.state
        if state is None:
            return []
        arrays = [slots[name] for name, _, slots in state.entries()]
        return [state.iterations, *state.numbers.values(), *arrays]

    def get_weights(self) -> list[np.ndarray]:
        """Return the state as host arrays, in Keras's order.

        Returns
        -------
        list of numpy.ndarray
            Copies: ``iterations`` (int64), each scalar state (float64), then slot by slot the
            arrays of all parameters. Empty before `init`, unless a file was loaded.
        """
        with self._lock:
            return save_and_load.weights_of(self._session)

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Replace the state by what `get_weights` returned, here or in Keras 2.0.

        Parameters
        ----------
        weights : sequence of array
            As from `get_weights`. Keras 2.0's shorter lists are known: without ``iterations`` for
            RMSprop, Adagrad and Adadelta, without ``m_schedule`` for Nadam; what a list lacks
            stays as it is. Before `init` the list is kept: that it holds numbers is checked at
            once, their count and shapes when the parameters are first seen.

        Raises
        ------
        ValueError
            If the count, or an entry's shape or kind is wrong. Nothing has changed then.
        """
        save_and_load.put_weights(self._session, list(weights))

    @property
    def _lock(self) -> Any:
        return self._session.lock

    def _record(self) -> persistence.Record:
        return save_and_load.record_of(self._session)

    def _load(self, record: persistence.Record, strict: bool, hyperparameters: bool) -> LoadReport:
        return save_and_load.load(self._session, record, strict, hyperparameters)

    # ---- numbers by name

    def _moment(self) -> tuple[Any, Mapping[str, Scalar]]:
        state = self._session.state
        if state is None or state.models is None:
            return self._session.iterations, self._session.scalars
        return state.moment.iterations, state.scalars

    if TYPE_CHECKING:
        learning_rate: Number = hyper(default=0.0, kw_only=True)  # an argument too
    else:

        @property
        def learning_rate(self) -> float:
            """Another name of ``lr``."""
            return self.lr

        @learning_rate.setter
        def learning_rate(self, value: Any) -> None:
            self.lr = value

    def __getattr__(self, name: str) -> Any:
        """Return scalar state by its name."""
        if not name.startswith("_"):
            scalars = self._named_scalars()
            if name in scalars:
                return scalars[name]
        cls = type(self).__name__
        public = [] if name.startswith("_") else [x for x in dir(type(self)) if x[0] != "_"]
        told = method(name, cls) or mistyped(name, public)
        raise AttributeError(f"{cls!r} object has no attribute {name!r}{told}")

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a hyperparameter or scalar state; refuse what is neither, such as a misspelt one."""
        if name.startswith("_") or hasattr(type(self), name):
            super().__setattr__(name, value)
            if name in self.hyperparameters:
                metrics.begin_schedule(self._session, name)
            return
        state, scalars = self._session.state, self._named_scalars()
        if name not in scalars:
            known = [*self.hyperparameters, "learning_rate", "iterations", *scalars]
            cls = type(self).__name__
            raise AttributeError(
                f"{cls} has no attribute {name!r} to set"
                f"{argument(name, cls) or method(name, cls) or nearest(name, known)}; "
                "a subclass may declare it, and names with a leading underscore are free"
            )
        if state is None:
            raise ValueError(f"{name} belongs to the state; call init(params) first")
        if state.models is not None and name in state.models.scalars:
            raise AttributeError(
                f"{type(self).__name__}.{name}: each model has its own; set it in the optimizer "
                "that take_model gives, and put that back"
            )
        state.scalars[name] = finite(value, f"{type(self).__name__}.{name}")

    def _named_scalars(self) -> Mapping[str, Scalar]:
        session = self._session
        if session.state is None:
            return session.settings.initial_scalars() | (session.settings.initial_of_models() or {})
        return session.state.moment.scalars

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Make an optimizer from a configuration, which is not changed.

        Parameters
        ----------
        config : dict
            What `get_config` gave, or that of the same optimizer in any version of Keras.

        Raises
        ------
        TypeError
            If it is no dict, or names something that this class lacks.
        ValueError
            If a value is outside its interval.

        Warns
        -----
        UserWarning
            If a configuration of Keras asks for what this library cannot honour; the message lists
            it.
        """
        if not isinstance(config, dict):
            raise TypeError(f"{cls.__name__}.from_config: found {config!r}, wanted a dict")
        refuse_nested(config, f"{cls.__name__}.from_config")
        known, lost = translate(cls.__name__, config)
        if lost:
            warnings.warn(
                f"{cls.__name__} leaves out of this configuration: {readable('; '.join(lost))}",
                stacklevel=2,
            )
        return super().from_config(known)
