"""The optimizers as optax gradient transformations.

Every registered optimizer is an attribute of this module, under its name::

    tx = optax.chain(optax.clip(1.0), arrayoptim.optax.Adam(lr=0.01))

The update is the difference of the parameters after and before a step of the pure form. Its
state is the same value that `init_state` returns and `stateless_apply` takes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..._typing import Tree
from ...arrays.trees import flatten
from ...config.hyper import REQUIRED, Hyper
from ...config.other_libraries import spelled
from ...config.registry import lookup, names
from ...numerics.slots import EXPONENTS
from ...optimizer import Optimizer
from ...step.pure import counted, numbers_in, with_arrays
from ...step.session import session_of, with_values
from ...step.state import State
from ..continuing import twin
from ..factories import under
from .aliases import TABLE, Alias, Shown, signature_of, translated
from .slot_pairs import is_own
from .state import export_state, load_state
from .states_of_optax import read, written
from .trees import filled, slot_names, without_decay

__all__ = ["export_state", "load_state", "wrap"]

STAND_INS = (0.5, 0.25, 1.5, 5.0)
"""Stand-ins for traced numbers: each interval contains one, and none disables a stage."""


def wrap(optimizer: Optimizer) -> optax.GradientTransformationExtraArgs:
    """Return an optax gradient transformation made from an optimizer, which is not changed.

    Parameters
    ----------
    optimizer : Optimizer
        Any optimizer of this library; its class need not be registered. If it has state, or has
        loaded some, ``init`` returns that.

    Returns
    -------
    optax.GradientTransformationExtraArgs
        The pair ``init(params)``, ``update(updates, state, params)``. The state is a dict of
        arrays, see `arrayoptim.Optimizer.init_state`.

    Raises
    ------
    TypeError
        If it is not an optimizer of this library.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import optax
    >>> import arrayoptim as ao
    >>> tx = ao.optax.wrap(ao.SGD(lr=0.5, clipnorm=1.0))
    >>> params = {"w": jnp.zeros(2)}
    >>> state = tx.init(params)
    >>> updates, state = tx.update({"w": jnp.array([3.0, 4.0])}, state, params)
    >>> print(optax.apply_updates(params, updates)["w"].round(3))
    [-0.3 -0.4]
    """
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"wrap: found {optimizer!r}, wanted an arrayoptim optimizer; instead of a wrapper, use "
            "optax's own, such as optax.MultiSteps"
        )
    return _transformation(twin(optimizer), {})


def _transformation(
    optimizer: Optimizer,
    live: dict[str, jax.Array],
    mask: Any = None,
    alias: Alias | None = None,
    theirs: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Return the transformation.

    Parameters
    ----------
    optimizer : Optimizer
        The optimizer.
    live : dict of str to array
        Hyperparameters that are arrays, which replace the state's.
    mask : tree of bool or callable, optional
        Which parameters are decayed.
    alias : Alias, optional
        The optax function that it replaces.
    theirs : GradientTransformation, optional
        Optax's transformation. It makes the state, and steps complex parameters (for which it
        uses magnitudes where we treat real and imaginary part separately) and 16-bit ones (whose
        moments it keeps in 16 bits).
    """

    def given(state: dict[str, Any]) -> dict[str, Any]:
        old = state["hyper"]
        return {**state, "hyper": old | {k: live[k].astype(old[k].dtype) for k in live if k in old}}

    def init(params: Tree) -> Any:
        params = _of_jax(params)
        if theirs is not None:
            return theirs.init(params)
        chosen = without_decay(optimizer, mask, params)
        state = chosen.init_state(params) if _has_arrays(params) else _blank(chosen, params)
        state = given(_begun(chosen, state, live) if live else state)
        return filled(chosen, state, params)

    def update(updates: Tree, state: Any, params: Tree | None = None, **extra: Any) -> Any:
        updates, params = _of_jax(updates), None if params is None else _of_jax(params)
        whose = updates if params is None else params
        served = _has_arrays(whose) and not _otherwise_in_optax(whose)
        if theirs is not None and not served:
            return optax.with_extra_args_support(theirs).update(updates, state, params, **extra)
        if params is None and not (alias and alias.free):
            raise ValueError(
                f"arrayoptim.optax: {type(optimizer).__name__} steps from the parameters; call "
                "update(grads, state, params)"
            )
        params = jax.tree.map(jnp.zeros_like, updates) if params is None else params
        whole = state
        if alias:
            state = read(optimizer, whole, alias.fields, params)
        if not _has_arrays(params):
            return updates, {**state, "iterations": counted(state["iterations"])}
        chosen = without_decay(optimizer, mask, params)
        state = _told(chosen, given(state), extra)
        new, after = chosen.stateless_apply(state, updates, params)
        moved = jax.tree.map(jnp.subtract, new, params)
        if alias:
            return moved, written(whole, after, alias.fields)
        # A state from `init_state` keeps its structure.
        if jax.tree.structure(after) != jax.tree.structure(state):
            after = filled(chosen, after, params)
        return moved, after

    return optax.GradientTransformationExtraArgs(init, update)


def _told(optimizer: Optimizer, state: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    """Return a state with the loss, optax's argument ``value``, recorded for the spike guard."""
    if not session_of(optimizer).settings.loss_guarded:
        return state
    if extra.get("value") is None:
        raise ValueError(
            f"arrayoptim.optax: {type(optimizer).__name__} has skip_loss_spikes, but found no "
            "loss; call update(grads, state, params, value=loss)"
        )
    return optimizer.stateless_tell_loss(state, extra["value"])


def _otherwise_in_optax(params: Tree) -> bool:
    kinds = (jnp.result_type(x) for x in jax.tree.leaves(params))
    return any(
        jnp.issubdtype(kind, jnp.complexfloating)
        or (jnp.issubdtype(kind, jnp.floating) and kind.itemsize < 4)
        for kind in kinds
    )


def _of_jax(tree: Tree) -> Tree:
    """Return a tree with NumPy arrays and numbers, which optax accepts, as JAX arrays."""

    def taken(x: Any) -> Any:
        # Copied first, because JAX may read the memory later or alias it.
        if isinstance(x, np.ndarray | np.generic):
            return jnp.asarray(np.array(x))
        if isinstance(x, int | float | complex) and not isinstance(x, bool):
            return jnp.asarray(x, dtype=None if isinstance(x, complex) else jnp.asarray(0.0).dtype)
        return x

    return jax.tree.map(taken, tree)


def _has_arrays(params: Tree) -> bool:
    return any(x is not None for x in flatten(params)[0])


def _blank(optimizer: Optimizer, params: Tree) -> dict[str, Any]:
    """Return the state for a tree without arrays: all masked, or placeholders for parameters.

    Its slots are that tree, so that ``optax.tree.map_params`` finds them.
    """
    settings = session_of(optimizer).settings
    state = State((), (), [], settings.initial_scalars())
    tree = state.to_tree(flatten(params)[1], numbers_in(settings))
    return {**with_arrays(tree, jnp), "slots": dict.fromkeys(slot_names(optimizer), params)}


def _begun(
    optimizer: Optimizer, state: dict[str, Any], live: dict[str, jax.Array]
) -> dict[str, Any]:
    """Initialise the slots and numbers that depend on hyperparameters given as arrays."""
    probe = with_values(optimizer, live)
    slots, scalars = dict(state["slots"]), dict(state["scalars"])
    for name, start in probe.initial_slots().items():
        if isinstance(start, jax.Array) and name + EXPONENTS not in slots:
            slots[name] = jax.tree.map(lambda x, start=start: _full(x, start), slots[name])
    # Not static ones: a rule may depend on whether one is 0, which is not known yet.
    for name, value in probe.initial_scalars().items():
        scalars[name] = jnp.asarray(value, scalars[name].dtype)
    return {**state, "slots": slots, "scalars": scalars}


def _full(x: jax.Array, start: jax.Array) -> jax.Array:
    # Both parts of a complex slot start at the number.
    number = jax.lax.complex(start, start) if jnp.iscomplexobj(x) else start
    return jnp.full_like(x, number)


# ---- factories

WORDS = {"b1": "beta_1", "b2": "beta_2", "b3": "beta_3", "eps": "epsilon"}
"""optax's argument names, which our classes also accept here."""


def _maker(name: str) -> Callable[..., optax.GradientTransformationExtraArgs]:
    cls = lookup(name)
    # JAX kernels have the shape (in, out).
    usual = {"outputs": "last"} if "outputs" in cls.hyperparameters else {}
    words = dict(WORDS)
    if "rho" in cls.hyperparameters:
        words["decay"] = "rho"

    def make(*args: Any, mask: Any = None, **kwargs: Any) -> optax.GradientTransformationExtraArgs:
        kwargs = {words.get(k, k): v for k, v in kwargs.items() if not isinstance(v, Shown)}
        values = cls._bind(args, kwargs)
        return _made(cls, usual | values, mask)

    return under(make, cls, _signature(cls, usual))


def _made(
    cls: type[Optimizer],
    values: dict[str, Any],
    mask: Any,
    alias: Alias | None = None,
    theirs: Any = None,
) -> optax.GradientTransformationExtraArgs:
    declared = cls.hyperparameters
    theirs_too = frozenset({"lr", *alias.words.values()} if alias else ())
    live = {
        k: _checked(v, declared[k], cls, theirs_too)
        for k, v in values.items()
        if isinstance(v, jax.Array) and declared[k].numeric
    }
    stand_ins = {k: _stand_in(declared[k]) for k in live}
    made = cls.taking(theirs_too, **(values | stand_ins))
    return _transformation(made, live, mask, alias, theirs)


def _alias(name: str) -> Callable[..., optax.GradientTransformationExtraArgs]:
    """Return the counterpart of an optax function; the function itself if there is none."""
    alias, signature = TABLE[name], signature_of(name)
    theirs = alias.theirs(name)

    def make(*args: Any, **kwargs: Any) -> optax.GradientTransformationExtraArgs:
        bound = signature.bind(*args, **kwargs)
        asked = {k: v for k, v in bound.arguments.items() if not isinstance(v, Shown)}
        bound.apply_defaults()
        values = translated(name, bound.arguments)
        if values is None:
            made: optax.GradientTransformationExtraArgs = theirs(**asked)
            return made
        return _made(
            lookup(alias.ours),
            values,
            bound.arguments.get(alias.masks) if alias.masks else None,
            alias,
            theirs(**asked),
        )

    return under(make, theirs, signature)


def _signature(cls: type[Optimizer], usual: dict[str, Any]) -> inspect.Signature:
    rows = [
        row
        if row.default is REQUIRED
        else row.replace(default=Shown(usual.get(row.name, row.default)))
        for row in inspect.signature(cls).parameters.values()
    ]
    if "lr" in cls.hyperparameters:
        kind, default = inspect.Parameter.KEYWORD_ONLY, Shown("lr")
        rows.append(inspect.Parameter("learning_rate", kind, default=default))
    return inspect.Signature(rows)


def _checked(
    value: jax.Array, declared: Hyper, cls: type[Optimizer], unbounded: frozenset[str]
) -> jax.Array:
    """Check a hyperparameter given as an array, possibly a tracer, and return it."""
    # inject_hyperparams casts numbers to the dtype of the parameters, even if complex.
    value = value.real if jnp.iscomplexobj(value) else value
    name, kind = f"{cls.__name__}.{declared.name}", value.dtype
    if value.shape != ():
        raise ValueError(f"{name}: found an array of shape {value.shape}, wanted a number")
    assert declared.interval is not None
    if declared.interval.high == 1 and jnp.issubdtype(kind, jnp.floating) and kind.itemsize < 4:
        raise ValueError(
            f"{name}: found it in {kind}, in which 0.999 is 1; for 16-bit parameters call "
            "optax.inject_hyperparams(..., hyperparam_dtype=jnp.float32)"
        )
    if not isinstance(value, jax.core.Tracer):
        declared.under(None, unbounded).checked(value, cls)
    return value


def _stand_in(declared: Hyper) -> float:
    assert declared.interval is not None
    fit = [x for x in STAND_INS if x in declared.interval]
    return next(x for x in fit if not declared.integer or x.is_integer())


class _Contrib:
    """``optax.contrib``, with this library's functions where they exist."""

    def __getattr__(self, name: str) -> Any:
        if name in TABLE and TABLE[name].home:
            return _alias(name)
        return _evaluated if name == "schedule_free_eval_params" else getattr(optax.contrib, name)


def _evaluated(state: Any, params: Tree) -> Tree:
    """Return the evaluation parameters for a schedule-free state, ours or optax's."""
    if not is_own(state):
        return optax.contrib.schedule_free_eval_params(state, params)
    b = state["hyper"]["momentum"]
    base = state["slots"]["base"]
    return jax.tree.map(lambda p, z: (p + (1.0 - 1.0 / b) * (z - p)).astype(p.dtype), params, base)


schedule_free_eval_params = _evaluated
contrib = _Contrib()


def __getattr__(name: str) -> Any:
    """Return a transformation factory for the optimizer with that name, or optax's attribute."""
    if name in names():
        return _maker(name)
    if name in TABLE and not TABLE[name].home:
        return _alias(name)
    if not name.startswith("_") and hasattr(optax, name):
        return getattr(optax, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{spelled(name, 'optax')}")


def __dir__() -> Sequence[str]:
    """Return all names, including those of the optimizers and of optax."""
    return sorted({*globals(), *names(), *TABLE, *dir(optax)})
