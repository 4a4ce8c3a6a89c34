"""The base of the Keras classes, which splits the work between Keras and this library."""

from __future__ import annotations

import contextlib
import glob
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import keras
import numpy as np

from ...config.keras import MARK, OURS, dialect_of, translate
from ...config.registry import mistyped, refuse_base, require_one_model
from ...gradients import clip_factor, global_norm
from ...optimizer import Optimizer
from ...optimizers import SGD
from ...step.report import StepReport
from ...step.session import session_of
from ...step.summary import Summary
from ..continuing import twin
from .arguments import RefusedError, in_our_words, in_words_of_keras, made
from .overriding import refuse_never_called, refuse_together
from .rates import as_schedule, without_rate
from .state import KerasState
from .variables import nested, outside_of_graphs, paths_of, tensor

if TYPE_CHECKING:
    from typing_extensions import Self

KERAS_OPTIONS = {
    "use_ema": False,
    "ema_momentum": 0.99,
    "ema_overwrite_frequency": None,
    "loss_scale_factor": None,
    "gradient_accumulation_steps": None,
}
"""Options that Keras's base class implements, with their defaults."""

_DECAYS = ("weight_decay", "adam_weight_decay")


class KerasOptimizer(keras.optimizers.Optimizer):  # type: ignore[misc]
    """Base of the Keras classes, one for each optimizer of this library.

    Parameters
    ----------
    *args, **kwargs
        Those of this library's class, with the same names and order. Also, by keyword,
        `use_ema`, `ema_momentum`, `ema_overwrite_frequency`, `loss_scale_factor` and
        `gradient_accumulation_steps`, which Keras's base class implements, and `global_clipnorm`,
        an alias of `clipnorm`: here, as in Keras 2, it bounds the norm of all gradients together.
        With ``preset="keras3"``, order, defaults and formula are those of Keras 3's class, and
        `clipnorm` bounds the norm of each gradient.

    Raises
    ------
    TypeError
        If an argument is unknown or has the wrong type, or a hyperparameter other than the
        learning rate is a schedule. It is also a ValueError, as which Keras raises it.
    ValueError
        If a value lies outside its interval.
    """

    optimizer_class: ClassVar[type[Optimizer]]
    built: bool

    def __new__(cls, *_: Any, **__: Any) -> Self:
        """Return an instance of exactly this class."""
        if keras.backend.backend() == "torch":
            # Keras would return its own class if it has one with this name.
            return object.__new__(cls)
        made: Self = super().__new__(cls)
        return made

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        refuse_base(type(self), "optimizer_class", "arrayoptim.keras.Adam")
        options = {key: kwargs.pop(key, default) for key, default in KERAS_OPTIONS.items()}
        try:
            words, rate = without_rate(in_our_words(self.optimizer_class, args, kwargs))
            inner = made(self.optimizer_class, words)
        except TypeError as error:
            raise RefusedError(*error.args) from None
        require_one_model(inner, type(self).__name__, "Keras compiles one at a time")
        whole = session_of(inner).settings.whole
        rate = as_schedule(whole["lr"]) if rate is None else rate
        for key, value in whole.items():
            if key != "lr" and callable(value):
                raise RefusedError(
                    f"{type(self).__name__}.{key}: found the schedule {value!r}, wanted a number; "
                    "in Keras only the learning rate may be a schedule"
                )
        if self._steps_each:
            refuse_together(self, inner)
        if whole["skip_loss_spikes"] is not None:
            raise RefusedError(
                f"{type(self).__name__}.skip_loss_spikes: found {whole['skip_loss_spikes']!r}; "
                "Keras passes its optimizers gradients, but no loss. skip_spikes judges the "
                "gradients, and arrayoptim's own classes accept a loss in tell_loss"
            )
        if whole["measure"] and keras.backend.backend() != "torch":
            raise RefusedError(
                f"{type(self).__name__}.measure: found {whole['measure']!r}; Keras compiles the "
                f"step of the backend {keras.backend.backend()!r}, which returns no norms. They "
                "are available with KERAS_BACKEND=torch, and in arrayoptim's own classes"
            )
        if callable(rate):
            inner.lr = 0.0  # Keras evaluates the schedule and passes each step a number
        super().__init__(learning_rate=rate, name=inner.name, **options)
        # Keras and TensorFlow track attributes set in the usual way.
        held = dict.fromkeys(("_held", "_pending", "_source"))
        self.__dict__.update(held, _inner=inner, _stepping=False)

    # ---- hyperparameters

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse a misspelt hyperparameter; Keras and subclasses set attributes of their own."""
        # Until there is an optimizer inside, Keras's constructor is still running.
        free = name.startswith("_") or name in self.__dict__ or hasattr(type(self), name)
        if not free and "_inner" in self.__dict__:
            known = [*self.optimizer_class.hyperparameters, "learning_rate", *KERAS_OPTIONS]
            if near := mistyped(name, known):
                raise AttributeError(
                    f"{type(self).__name__} has no attribute {name!r} to set{near}; a subclass may "
                    "declare it, and names with a leading underscore are free"
                )
        super().__setattr__(name, value)

    @property
    def learning_rate(self) -> Any:
        """Learning rate of the next step; a variable of Keras unless a schedule is set."""
        return self._get_current_learning_rate()

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        if isinstance(value, int | float | np.number | str | None):
            value = self.optimizer_class.hyperparameters["lr"].checked(value, type(self))
        keras.optimizers.Optimizer.learning_rate.fset(self, as_schedule(value))

    @property
    def lr(self) -> Any:
        """Another name of ``learning_rate``, that of Keras 2."""
        return self.learning_rate

    @lr.setter
    def lr(self, value: Any) -> None:
        self.learning_rate = value

    @property
    def global_clipnorm(self) -> Any:
        """Bound on the norm of all gradients together, by Keras 3's name."""
        return self._inner.clipnorm

    @global_clipnorm.setter
    def global_clipnorm(self, value: Any) -> None:
        if "_inner" in self.__dict__:
            self._inner.clipnorm = value

    @property
    def skipped(self) -> int:
        """Steps skipped because a gradient was not finite, with ``nonfinite="skip"``."""
        variable = self._held and self._held.skipped
        return 0 if variable is None else int(keras.ops.convert_to_numpy(variable))

    @property
    def last_step(self) -> StepReport | None:
        """What the last step did, see `Optimizer.last_step`; None where Keras compiles it."""
        found: StepReport | None = self._inner.last_step
        return found

    def summary(self, variables: Sequence[Any] | None = None) -> Summary:
        """Return what state there is, or will be, array by array; see `Optimizer.summary`.

        What Keras's base class adds, sums of gradients over several steps, is not in it.

        Parameters
        ----------
        variables : sequence of keras.Variable, optional
            What is to be trained; needed only before the optimizer is built.

        Raises
        ------
        ValueError
            If the optimizer is not built, and none are given.

        Examples
        --------
        >>> import keras
        >>> import arrayoptim as ao
        >>> optimizer = ao.keras.Adam(state_dtype="bfloat16")
        >>> optimizer.summary([keras.Variable([[1.0, 2.0]], name="kernel")]).bytes
        8
        """
        if self._held is not None:
            held: Summary = self._held.summary(type(self).__name__)
            return held
        if not variables:
            raise ValueError(
                f"{self.name}.summary: found no variables, wanted those to be trained, or "
                "a built optimizer"
            )
        values = nested(paths_of(variables), [tensor(v) for v in variables])
        wanted: Summary = self._inner.summary(values)
        return wanted

    def exclude_from_weight_decay(
        self, var_list: Sequence[Any] | None = None, var_names: Sequence[str] | None = None
    ) -> None:
        """Exclude variables from weight decay and `l2`, before the optimizer is built.

        Parameters
        ----------
        var_list : sequence of keras.Variable, optional
            Variables.
        var_names : sequence of str, optional
            Regular expressions of names.

        Raises
        ------
        ValueError
            If the optimizer has been built.
        """
        if self.built:
            raise ValueError(
                f"{self.name} has been built: call exclude_from_weight_decay before, or set "
                "`exclude`, patterns of paths"
            )
        super().exclude_from_weight_decay(var_list, var_names)

    # ---- what Keras calls

    def build(self, variables: Sequence[Any]) -> None:
        """Make the state for a list of variables.

        Raises
        ------
        TypeError
            If one does not have a floating-point dtype.
        ValueError
            If a pattern of `exclude` or of a group matches no variable, or a state that was loaded
            before does not fit.
        """
        if self.built or not variables:
            return
        if getattr(self, "_distribution_strategy", None) is not None:
            _refuse_replicas(self._distribution_strategy)
        variables = list(variables)
        self._exclude(variables)
        with outside_of_graphs():
            super().build(variables)
            self.built = False  # until everything has succeeded
            without = [bool(self._overwrite_variable_with_gradient(v)) for v in variables]
            held = KerasState(self, self._inner, variables, without, self._source)
            self.__dict__.update(_held=held, _source=None)
            self.built = True
            if self._pending is not None:
                self.set_weights(self._pending)

    def _carry(self, optimizer: Optimizer) -> None:
        """Adopt the state of an optimizer of this library, when this one is built."""
        self.__dict__.update(_source=twin(optimizer))
        self._iterations.assign(optimizer.iterations)

    def _exclude(self, variables: Sequence[Any]) -> None:
        paths = zip(paths_of(variables), variables, strict=True)
        out = [glob.escape(path) for path, v in paths if not self._use_weight_decay(v)]
        self._inner.exclude = tuple(dict.fromkeys((*self._inner.exclude, *out)))

    def _backend_apply_gradients(
        self, grads: Sequence[Any], trainable_variables: Sequence[Any]
    ) -> None:
        before = self.__dict__["_stepping"]
        self.__dict__["_stepping"] = True
        try:
            super()._backend_apply_gradients(grads, trainable_variables)
        finally:
            self.__dict__["_stepping"] = before

    def _clip_gradients(self, grads: Sequence[Any]) -> Sequence[Any]:
        """Clip gradients; in `apply`, the step does so instead."""
        names = ("clipnorm", "clipnorm_per_tensor", "clipvalue")
        bounds = {name: getattr(self._inner, name) for name in names}
        if self._stepping or not any(bounds.values()):
            return grads
        # A step of gradient descent from zero subtracts the clipped gradient.
        descent, given = SGD(lr=1.0, **bounds), [None if g is None else tensor(g) for g in grads]
        start = [None if g is None else keras.ops.zeros_like(g) for g in given]
        taken, _ = descent.stateless_apply(descent.init_state(start), given, start)
        return [None if p is None else -p for p in taken]

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        """Decay the variables; in `apply`, the step does so instead."""
        if self._stepping:
            return
        inner = self._inner
        for variable in variables:
            rule = inner.rule_for(*paths_of([variable]), tuple(variable.shape))
            word = inner.words_for(rule).get("weight_decay")
            share = getattr(inner, word or "weight_decay")
            if share and self._use_weight_decay(variable):
                value = tensor(variable)
                left = 1.0 - keras.ops.cast(self.learning_rate, value.dtype) * share
                variable.assign(value * keras.ops.cast(left, value.dtype))

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse a subclass that overrides a method that is never called."""
        super().__init_subclass__(**kwargs)
        if hasattr(cls, "optimizer_class"):
            refuse_never_called(cls, KerasOptimizer)

    @property
    def _steps_each(self) -> bool:
        """Whether each variable is stepped by an override of `update_step`."""
        return getattr(self.update_step, "__func__", None) is not KerasOptimizer.update_step

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Step one variable.

        By default all variables are stepped at once and this is not called, unless a subclass
        overrides it.

        Parameters
        ----------
        gradient : tensor
            The gradient, already clipped.
        variable : keras.Variable
            The variable to step.
        learning_rate : float or tensor
            The learning rate.
        """
        place = self._get_variable_index(variable)
        with contextlib.nullcontext() if self._stepping else self._without_decay():
            self._held.step([gradient], [variable], [place], self, learning_rate)

    @contextlib.contextmanager
    def _without_decay(self) -> Iterator[None]:
        """Disable decay, which Keras applies before it calls `update_step`."""
        names = [n for n in _DECAYS if getattr(self._inner, n, None)]
        values = [getattr(self._inner, name) for name in names]
        try:
            for name in names:
                setattr(self._inner, name, 0.0)
            yield
        finally:
            for name, value in zip(names, values, strict=True):
                setattr(self._inner, name, value)

    def _update_each(
        self, grads: Sequence[Any], trainable_variables: Sequence[Any], learning_rate: Any
    ) -> None:
        """Step each variable by `update_step`, all from the same scalar state."""
        if self.global_clipnorm is not None:
            found = [tensor(g) for g in grads]
            factor = clip_factor(global_norm(found), self.global_clipnorm)
            grads = [g * keras.ops.cast(factor, g.dtype) for g in found]
        with self._held.one_step():
            for g, variable in zip(grads, trainable_variables, strict=True):
                self.update_step(g, variable, learning_rate)

    def _backend_update_step(
        self, grads: Sequence[Any], trainable_variables: Sequence[Any], learning_rate: Any
    ) -> None:
        if self._steps_each:
            self._update_each(grads, trainable_variables, learning_rate)
            return
        places = [self._get_variable_index(v) for v in trainable_variables]
        taken = self._held.step(grads, trainable_variables, places, self)
        if self._inner.nonfinite == "skip" or self._inner.skip_spikes is not None:
            # Keras counts every call; with accumulation, several calls make one step.
            left_out = keras.ops.cast((1 - taken), self._iterations.dtype)
            self._iterations.assign_sub(left_out * (self.gradient_accumulation_steps or 1))

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set the values of all variables, now or when the optimizer is built.

        Parameters
        ----------
        weights : sequence of array
            In the order of `variables`. Weights of an optimizer that was neither built nor stepped
            reset this one to its initial state.

        Raises
        ------
        ValueError
            If the number of arrays or a shape differs. Nothing has changed then.
        """
        if not self.built and len(weights) > len(self.variables):
            self.__dict__.update(_pending=[np.array(w) for w in weights], _source=None)
            return
        found, wanted = [tuple(w.shape) for w in weights], [tuple(v.shape) for v in self.variables]
        first = 1 + isinstance(self._learning_rate, keras.Variable)
        # With a nonzero count, it could be an optimizer without slots that has stepped.
        if self.built and found == wanted[:first] != wanted and int(weights[0]) == 0:
            self._held.restart(self)
        elif found != wanted:
            differing = [k for k, pair in enumerate(zip(found, wanted)) if pair[0] != pair[1]]
            where = f"; {differing[0]} is the first difference" if differing else ""
            raise ValueError(
                f"optimizer {self.name!r}: found {len(found)} arrays, wanted {len(wanted)} with "
                f"the shapes of its variables{where}. Is it the state of another optimizer, or of "
                "other hyperparameters?"
            )
        for variable, value in zip(self.variables, weights, strict=False):
            variable.assign(value)
        self.__dict__.update(_pending=None, _source=None)

    def save_own_variables(self, store: Any) -> None:
        """Write the state into a file, including state loaded before the optimizer is built.

        Raises
        ------
        ValueError
            If the state of another optimizer is waiting to be adopted.
        """
        if self._source is not None:
            raise ValueError(
                f"optimizer {self.name!r} will adopt another optimizer's state when it "
                "is built; call build(model.trainable_variables) before saving it"
            )
        if self._pending is None:
            super().save_own_variables(store)
            return
        for k, value in enumerate(self._pending):
            store[str(k)] = value

    def load_own_variables(self, store: Any) -> None:
        """Load the state from a file, now or when the optimizer is built."""
        self.set_weights([np.asarray(store[str(k)]) for k in range(len(store.keys()))])

    # ---- configuration

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments: all of the class's own, others unless default."""
        base = super().get_config()
        own = self._inner.get_config()
        del own["lr"]
        kept = {key: base[key] for key in ("name", "learning_rate", *KERAS_OPTIONS)}
        return {**kept, **MARK, **own, "name": self.name}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Mapping[str, Any] | None = None
    ) -> KerasOptimizer:
        """Return an optimizer made from a configuration, which is not modified.

        Parameters
        ----------
        config : dict
            As from `get_config`, or the configuration of the same optimizer in Keras 2 or 3.
        custom_objects : dict, optional
            Classes of learning-rate schedules by name.
        """
        config = dict(config)
        rate = config.get("learning_rate")
        if isinstance(rate, dict):
            config["learning_rate"] = keras.saving.deserialize_keras_object(
                rate, custom_objects=custom_objects
            )
        # Our configurations always contain these options, and never a global norm as well.
        ours = set(KERAS_OPTIONS) & set(config) and "global_clipnorm" not in config
        dialect = OURS if ours else dialect_of(config)
        options = {key: config.pop(key) for key in KERAS_OPTIONS if key in config}
        config, lost = translate(cls.__name__, config, dialect)
        if dialect == OURS and "outputs" in cls.optimizer_class.hyperparameters:
            config.setdefault("outputs", "first")  # missing in our configurations
        if lost:
            warnings.warn(
                f"{cls.__name__} leaves out of this configuration: {'; '.join(lost)}", stacklevel=2
            )
        return cls(**in_words_of_keras(config), **options)


def _refuse_replicas(strategy: Any) -> None:
    if strategy.num_replicas_in_sync > 1:
        raise ValueError(
            f"found a tf.distribute strategy of {strategy.num_replicas_in_sync} replicas; wanted "
            "one: these optimizers do not support several"
        )
