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
"""Hyperparameters that cannot be combined with some rules, or with one another."""


class Optimizer(Formula, Valued, Updating, Surface):
    """Base of every optimizer.

    A subclass declares its hyperparameters with `hyper`, names its `rule` and computes its
    `coefficients`; this class does everything else.

    Parameters
    ----------
    clipnorm : float in [0, inf], optional
        Bound on the Euclidean norm of all gradients together, as in Keras 2; 0 or None for none.
    clipvalue : float in [0, inf], optional
        Bound on the magnitude of each entry of a gradient, after `clipnorm`; 0 or None for none.
    clipnorm_per_tensor : float in [0, inf], optional
        Bound on the norm of each gradient, after `clipnorm`, like Keras 3's ``clipnorm``; 0 or None
        for none.
    agc : float in [0, inf], optional
        Adaptive gradient clipping: bound on the ratio of a unit's gradient norm to the norm of the
        unit itself; 0 or None for none.
    agc_units : {"last", "first", "tensor"}
        Which axis counts the units of `agc`: the last, as in kernels of Keras and JAX; the first,
        as in weights of torch; or none, each tensor being one unit.
    weight_decay : float in [0, inf) or schedule, optional
        Decoupled weight decay: a step first subtracts ``lr * weight_decay * parameter``.
    peak_lr : float in (0, inf), optional
        The peak of the learning rate's schedule. If given, weight decay is fully decoupled: a step
        subtracts ``lr / peak_lr * weight_decay * parameter``.
    corrected_decay : bool
        Whether that product is multiplied by ``lr / peak_lr`` once more, to ``lr**2 / peak_lr *
        weight_decay * parameter``, as in AdamC; for layers followed by a normalisation.
    cautious_decay : bool
        Whether `weight_decay` skips the entries that the step moves away from zero.
    l2 : float in [0, inf) or schedule, optional
        Coupled weight decay: ``l2 * parameter`` is added to the clipped gradient.
    exclude : str or sequence of str
        Glob patterns; parameters whose paths match are exempt from `weight_decay` and `l2`.
    constraint : Constraint, str or dict, optional
        Projects the parameters after each step: one of `constraints`, its name or its
        configuration.
    groups : sequence of Group
        Parameters with settings of their own, each described by `group`.
    ema_momentum : float in [0, 1) or schedule, optional
        Decay rate of a moving average of the parameters, see `averages`; one more slot.
    cautious : bool
        Whether a step leaves out the entries that it would move against their own gradient, and
        scales up the remaining ones to make up for it, tensor by tensor. Costs one more pass over
        the arrays.
    preset : {"keras2", "keras3", "optax", "paper", "torch"}, optional
        The source whose formula and defaults are used. Hyperparameters keep the names and meanings
        documented here. The page of each class lists the presets that it has.
    name : str, optional
        Name shown in messages; saved in the configuration.
    nonfinite : {"ignore", "raise", "skip"}
        What happens when a gradient has a NaN or infinite entry: the step proceeds and propagates
        it, raises a ValueError, or is skipped entirely and counted in `skipped`.
    skip_spikes : float in (0, inf), optional
        Skip, and count in ``spikes``, each step whose global gradient norm exceeds the mean of
        recent norms by this many standard deviations, or is not finite (unless `nonfinite` decides
        otherwise). Four scalars of state.
    skip_loss_spikes : float in (0, inf), optional
        The same for the loss, as passed to `tell_loss` before each step; `minimize` passes it
        automatically. Six scalars of state.
    spike_window : int in [2, inf)
        Steps over which mean and deviation are taken; nothing is skipped during the first half.
    measure : sequence of {"gradient", "update", "weight"}
        Which norms `last_step` reports for each parameter. ``"gradient"`` costs one pass over the
        gradients, ``"weight"`` one over the parameters, ``"update"`` also a copy of the parameters.
    master : bool
        Whether a float16 or bfloat16 parameter has a float32 master copy as an additional slot.
        Without one, updates smaller than half the parameter's resolution are lost.
    kahan : bool
        Kahan summation: a 16-bit slot holds the rounding error of a 16-bit parameter; no master.
    state_dtype : {"bfloat16", "int8"}, optional
        Storage format of the rule's slots: 2 bytes per entry, or 1 byte in blocks with a shared
        exponent, instead of 4. Slots not shaped like their parameter are not converted.
    stochastic_rounding : bool
        Whether slots in `state_dtype` are rounded stochastically, which makes them unbiased.
        Without it, small changes of a slot are lost. Not available for JAX arrays.
    seed : int
        Seed of stochastic rounding; random bits depend only on it, the step and the entry's index.
    offload : bool
        Whether the state of parameters on a GPU is kept in host memory, and the CPU engine steps
        them there; see the page on engines.
    sparse : {"exact", "lazy"}, optional
        What a step with a sparse gradient updates: the whole parameter, as the same gradient in
        dense form would, or only the rows in the gradient, with their slots. None means
        ``"exact"``, except that torch's classes refuse what torch itself refuses; see the page on
        sparse gradients.
    models : int in [1, inf), optional
        Number of models stepped at once: the first axis of every parameter counts the models, and
        a hyperparameter may be a list or array with one number or schedule per model. See the
        page on many models.
    threads : int in [1, inf), optional
        Threads of the CPU engine, by default Numba's number. Results do not depend on it.
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
            If a leaf is not an array of a floating-point or complex dtype.
        ValueError
            If two parameters share memory, or the state belongs to a different tree.
        """
        with self._lock:
            self._session.ready(*self._session.flat(params))

    build = init

    def apply(self, grads: Tree, params: Tree) -> Tree:
        """Take one step.

        Parameters
        ----------
        grads : tree of arrays
            The gradients, structured like `params`. A parameter with gradient None is not changed.
        params : tree of arrays, or one array
            NumPy, CuPy and torch arrays are updated in place.

        Returns
        -------
        tree
            `params` itself if all were updated in place; otherwise a tree of the same structure,
            with new arrays replacing those that cannot be written.

        Raises
        ------
        TypeError
            If an array has a dtype that cannot be stepped.
        ValueError
            If the gradients do not fit the parameters, or the parameters do not fit the state.
            Nothing has changed then.
        """
        try:
            return self._session.step(grads, params)
        except BaseException:
            self._session.untell()
            raise

    def observe(self, metric: Any) -> None:
        """Pass a metric, such as a validation loss, to every schedule that takes one.

        Parameters
        ----------
        metric : float, or with `models` a sequence of float
            The metric that `schedules.Plateau` watches: one for all models, or one per model.

        Raises
        ------
        TypeError
            If it is not a number.
        ValueError
            If no hyperparameter is a schedule that takes a metric, or there is no state yet.
        """
        metrics.observe(self._session, metric)

    def tell_loss(self, loss: Any) -> None:
        """Pass the loss of the next step: the one that was differentiated for its gradients.

        `skip_loss_spikes` decides by it. `minimize` passes it automatically. If the step raises,
        the loss is discarded.

        Parameters
        ----------
        loss : float or 0-d array
            The loss, without any loss scale. If it is passed several times before a step, the mean
            counts, just as `GradientAccumulation` averages the gradients of several calls. If
            several processes take the same step, all of them must pass the same loss.

        Raises
        ------
        TypeError
            If it is not a real number.
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

        State, kernels and tables on the device are made here, outside of the graph, because no
        memory can be allocated while a graph is captured.

        Parameters
        ----------
        params : tree of arrays
            CuPy arrays or torch CUDA tensors, all on one device.

        Returns
        -------
        CapturedStep
            Call its `apply` once while the graph is captured, and its `replay` before each replay
            of the graph.

        Raises
        ------
        RuntimeError
            If a graph is already being captured.
        ValueError
            If a step of this optimizer cannot be made of kernels on one device alone.
        """
        return graphs.capture(self._session, params)

    def averages(self, params: Tree) -> Tree:
        """Return the averaged parameters, which are the ones to evaluate.

        These are the moving averages of `ema_momentum`; without it, those of the rule, as in
        `ASGD`, `ScheduleFreeSGD` and `ScheduleFreeAdamW`.

        Parameters
        ----------
        params : tree of arrays
            The parameters, which are not changed.

        Returns
        -------
        tree of arrays
            New arrays with the structure and dtypes of `params`. A parameter in a group whose
            optimizer keeps no average is returned as a copy.

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
        """Differentiate a loss, and clip the gradients as a step would.

        Parameters
        ----------
        loss : torch.Tensor or callable
            A torch scalar, or a function of the parameters that returns a scalar (torch, JAX, or
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
            If `loss` is neither, or no library can differentiate it.
        ValueError
            If the loss does not depend on some parameter.
        """
        grads, leaves, structure = gradients_of(loss, params)
        checks.gradients(grads, leaves, structure)
        split, _ = self._session.pieces(grads, structure)
        pieces, stack = self._session.pieces(leaves, structure)
        return stack.build(updates.clipped(self._session, split, pieces, stack))

    def get_updates(self, params: Tree, loss: Any) -> list[tuple[Any, Any]]:
        """Compute a step without changing anything.

        Parameters
        ----------
        params : tree of arrays
            The parameters.
        loss : torch.Tensor or callable
            See `get_gradients`. The two arguments may come in either order, as in Keras 2 and
            natural_bm.

        Returns
        -------
        list of (target, new value)
            First ``iterations``, the scalar state and the slots, each as a `StateTarget`; then the
            parameters, each as itself. `apply_updates` carries them out.
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
        """Number of steps taken, whatever the rule; it can be set."""
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
        """Number of steps skipped because a gradient had a NaN or infinite entry."""
        state = self._session.state
        return int(state.skipped) if state else 0

    @property
    def last_step(self) -> StepReport | None:
        """What the last call of `apply` did; None before the first.

        The report is built on access; only then are norms fetched from a GPU.
        """
        last = self._session.last
        return None if last is None else report(last)

    def summary(self, params: Tree) -> Summary:
        """Return a table of the state that exists, or will be made, for some parameters.

        Parameters
        ----------
        params : tree of arrays
            The parameters; only their paths, shapes and dtypes are read.

        Returns
        -------
        Summary
            Prints as a table, with one row per array; ``bytes`` is the total memory of the state.

        Raises
        ------
        TypeError, ValueError
            If they cannot be stepped, or the optimizer's state belongs to other parameters.

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
        """Discard all state, including loaded state not yet used; hyperparameters are kept."""
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
            Copies: ``iterations`` (int64), each scalar state (float64), then for each slot the
            arrays of all parameters. Empty before `init`, unless a file was loaded.
        """
        with self._lock:
            return save_and_load.weights_of(self._session)

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Replace the state with what `get_weights` returned, here or in Keras 2.0.

        Parameters
        ----------
        weights : sequence of array
            As from `get_weights`. Keras 2.0's shorter lists are recognised: without ``iterations``
            for RMSprop, Adagrad and Adadelta, without ``m_schedule`` for Nadam; values that a list
            lacks keep their current state. Before `init`, the list is stored: its entries must be
            numeric at once, while its length and shapes are checked when `init` is called.

        Raises
        ------
        ValueError
            If the length, or the shape or dtype of an entry is wrong. Nothing has changed then.
        """
        save_and_load.put_weights(self._session, list(weights))

    @property
    def _lock(self) -> Any:
        return self._session.lock

    def _record(self) -> persistence.Record:
        return save_and_load.record_of(self._session)

    def _load(self, record: persistence.Record, strict: bool, hyperparameters: bool) -> LoadReport:
        return save_and_load.load(self._session, record, strict, hyperparameters)

    # ---- hyperparameters and scalar state as attributes

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
            """Alias of ``lr``."""
            return self.lr

        @learning_rate.setter
        def learning_rate(self, value: Any) -> None:
            self.lr = value

    def __getattr__(self, name: str) -> Any:
        """Return the scalar state with this name."""
        if not name.startswith("_"):
            scalars = self._named_scalars()
            if name in scalars:
                return scalars[name]
        cls = type(self).__name__
        public = [] if name.startswith("_") else [x for x in dir(type(self)) if x[0] != "_"]
        told = method(name, cls) or mistyped(name, public)
        raise AttributeError(f"{cls!r} object has no attribute {name!r}{told}")

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a hyperparameter or scalar state; refuse any other name, such as a misspelt one."""
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
                "that take_model returns, then pass that to put_model"
            )
        state.scalars[name] = finite(value, f"{type(self).__name__}.{name}")

    def _named_scalars(self) -> Mapping[str, Scalar]:
        session = self._session
        if session.state is None:
            return session.settings.initial_scalars() | (session.settings.initial_of_models() or {})
        return session.state.moment.scalars

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Return an optimizer made from a configuration, which is not modified.

        Parameters
        ----------
        config : dict
            As from `get_config`, or the configuration of the same optimizer in any Keras version.

        Raises
        ------
        TypeError
            If it is not a dict, or has a key that this class does not know.
        ValueError
            If a value lies outside its interval.

        Warns
        -----
        UserWarning
            If a configuration of Keras has a setting that this library cannot honour; the message
            lists these settings.
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
