"""The optimizers as gradient transformations of optax.

Every registered optimizer is an attribute of this module, under its name::

    tx = optax.chain(optax.clip(1.0), arrayoptim.optax.Adam(lr=0.01))

The update is the difference between the parameters after and before a step of the pure form. Its
state is the very value that `init_state` gives and `stateless_apply` takes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import update_wrapper
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..._typing import Tree
from ...arrays.trees import flatten
from ...config.hyper import REQUIRED, Hyper
from ...config.registry import lookup, names
from ...numerics.slots import EXPONENTS
from ...optimizer import Optimizer
from ...step.pure import counted, numbers_in, with_arrays
from ...step.session import session_of, with_values
from ...step.state import State
from ..carry import twin
from .state import export_state, load_state

__all__ = ["export_state", "load_state", "wrap"]

STAND_INS = (0.5, 0.25, 1.5, 5.0)
"""Numbers in place of those that a compiler traces: each interval has one, and none is off."""


class _Default:
    """A default in a signature: no number, so `optax.inject_hyperparams` leaves it alone."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def wrap(optimizer: Optimizer) -> optax.GradientTransformationExtraArgs:
    """Make a gradient transformation of optax from an optimizer, which is not changed.

    Parameters
    ----------
    optimizer : Optimizer
        Any optimizer of this library; its class need not be registered. Where it has state, or
        has loaded some, ``init`` gives that.

    Returns
    -------
    optax.GradientTransformationExtraArgs
        The pair ``init(params)``, ``update(updates, state, params)``. The state is a dict of
        arrays, see `arrayoptim.Optimizer.init_state`.

    Raises
    ------
    TypeError
        If it is none of this library's.

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
            f"wrap: found {optimizer!r}, wanted an arrayoptim optimizer; for a wrapper around one "
            "optax has its own, such as optax.MultiSteps"
        )
    return _transformation(twin(optimizer), {})


def _transformation(
    optimizer: Optimizer, live: dict[str, jax.Array]
) -> optax.GradientTransformationExtraArgs:
    """Give the transformation, with hyperparameters that are arrays in place of the state's."""

    def given(state: dict[str, Any]) -> dict[str, Any]:
        old = state["hyper"]
        return {**state, "hyper": old | {k: live[k].astype(old[k].dtype) for k in live if k in old}}

    def init(params: Tree) -> dict[str, Any]:
        params = _of_jax(params)
        state = optimizer.init_state(params) if _has_arrays(params) else _blank(optimizer, params)
        return given(_begun(optimizer, state, live) if live else state)

    def update(
        updates: Tree, state: dict[str, Any], params: Tree | None = None, **_: Any
    ) -> tuple[Tree, dict[str, Any]]:
        if params is None:
            raise ValueError(
                f"arrayoptim.optax: {type(optimizer).__name__} steps from the parameters; call "
                "update(grads, state, params)"
            )
        updates, params = _of_jax(updates), _of_jax(params)
        if not _has_arrays(params):
            return updates, {**state, "iterations": counted(state["iterations"])}
        new, state = optimizer.stateless_apply(given(state), updates, params)
        return jax.tree.map(jnp.subtract, new, params), state

    return optax.GradientTransformationExtraArgs(init, update)


def _of_jax(tree: Tree) -> Tree:
    """Return a tree with JAX arrays in place of those of NumPy, and numbers, which optax takes."""

    def taken(x: Any) -> Any:
        # A copy first: JAX may read the memory that it is given later on, or keep it.
        if isinstance(x, np.ndarray | np.generic):
            return jnp.asarray(np.array(x))
        if isinstance(x, int | float | complex) and not isinstance(x, bool):
            return jnp.asarray(x, dtype=None if isinstance(x, complex) else jnp.asarray(0.0).dtype)
        return x

    return jax.tree.map(taken, tree)


def _has_arrays(params: Tree) -> bool:
    return any(x is not None for x in flatten(params)[0])


def _blank(optimizer: Optimizer, params: Tree) -> dict[str, Any]:
    """Make the state for a tree without arrays: all masked, or what stands for parameters.

    Its slots are that tree, so that ``optax.tree.map_params`` finds them.
    """
    settings = session_of(optimizer).settings
    layouts = [settings.layout(member.formula.rule) for member in settings.members]
    slots = {name: params for layout in layouts for name in layout.slots("float32")}
    state = State((), (), [], settings.initial_scalars())
    tree = state.to_tree(flatten(params)[1], numbers_in(settings))
    return {**with_arrays(tree, jnp), "slots": slots}


def _begun(
    optimizer: Optimizer, state: dict[str, Any], live: dict[str, jax.Array]
) -> dict[str, Any]:
    """Begin the slots and numbers that depend on hyperparameters that are arrays."""
    probe = with_values(optimizer, live)
    slots, scalars = dict(state["slots"]), dict(state["scalars"])
    for name, start in probe.initial_slots().items():
        if isinstance(start, jax.Array) and name + EXPONENTS not in slots:
            slots[name] = jax.tree.map(lambda x, start=start: _full(x, start), slots[name])
    for name, value in session_of(probe).settings.initial_scalars().items():
        scalars[name] = jnp.asarray(value, scalars[name].dtype)
    return {**state, "slots": slots, "scalars": scalars}


def _full(x: jax.Array, start: jax.Array) -> jax.Array:
    # Both parts of a complex slot begin with the number.
    number = jax.lax.complex(start, start) if jnp.iscomplexobj(x) else start
    return jnp.full_like(x, number)


# ---- factories


def _maker(name: str) -> Callable[..., optax.GradientTransformationExtraArgs]:
    cls = lookup(name)

    def make(*args: Any, **kwargs: Any) -> optax.GradientTransformationExtraArgs:
        kwargs = {k: v for k, v in kwargs.items() if not isinstance(v, _Default)}
        values = cls._bind(args, kwargs)
        declared = cls.hyperparameters
        live = {
            k: _checked(v, declared[k], cls)
            for k, v in values.items()
            if isinstance(v, jax.Array) and declared[k].numeric
        }
        stand_ins = {k: _stand_in(declared[k]) for k in live}
        return _transformation(cls(**(values | stand_ins)), live)

    update_wrapper(make, cls, updated=())
    make.__signature__ = _signature(cls)  # type: ignore[attr-defined]
    return make


def _signature(cls: type[Optimizer]) -> inspect.Signature:
    rows = [
        row if row.default is REQUIRED else row.replace(default=_Default(repr(row.default)))
        for row in inspect.signature(cls).parameters.values()
    ]
    if "lr" in cls.hyperparameters:
        kind, default = inspect.Parameter.KEYWORD_ONLY, _Default("lr")
        rows.append(inspect.Parameter("learning_rate", kind, default=default))
    return inspect.Signature(rows)


def _checked(value: jax.Array, declared: Hyper, cls: type[Optimizer]) -> jax.Array:
    """Give a hyperparameter that is an array, and whose value may not be known yet."""
    # inject_hyperparams gives numbers the data type of the parameters, complex ones too.
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
        declared.checked(value, cls)
    return value


def _stand_in(declared: Hyper) -> float:
    assert declared.interval is not None
    fit = [x for x in STAND_INS if x in declared.interval]
    return next(x for x in fit if not declared.integer or x.is_integer())


def __getattr__(name: str) -> Callable[..., optax.GradientTransformationExtraArgs]:
    """Give what makes a transformation with the optimizer of that name."""
    if name in names():
        return _maker(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {names()}")


def __dir__() -> Sequence[str]:
    """Name the optimizers too."""
    return sorted({*globals(), *names()})
