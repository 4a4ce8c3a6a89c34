"""What the libraries' derivatives share: losses, and what is wrong with them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakSet

from ..._typing import Array
from ..libraries import COMPLEX, backend_of
from ..trees import Structure, flatten, named, outline

Loss = Callable[[Sequence[Array]], Any]
"""A loss as a function of the leaves of its parameters."""

_SCALAR: WeakSet[Any] = WeakSet()
"""Losses that have given a scalar, and need not be asked again whether they give a pair."""


def by_hand(given: tuple[Any, ...], structure: Structure) -> Any:
    """Return the value and the gradients that the loss returned itself."""
    if len(given) != 2:
        raise ValueError(
            f"the loss returned {len(given)} things, wanted the pair (value, gradients)"
        )
    gradients, found = flatten(given[1], "gradients")
    if found.paths != structure.paths:
        raise ValueError(
            f"the gradients that the loss returned are {outline(found)}; "
            f"wanted {outline(structure)}"
        )
    return given[0], gradients


def require_all(used: Sequence[bool], structure: Structure) -> None:
    """Name the first parameter that the loss does not depend on, if there is one."""
    for path, depends in zip(structure.paths, used, strict=True):
        if not depends:
            raise ValueError(
                f"the loss does not depend on {named(path)}; leave it out of the parameters, "
                "or give apply its gradient as None"
            )


def no_scalar(value: Any) -> TypeError:
    """Return the error for a loss that returns no scalar."""
    if isinstance(value, float | int):
        return TypeError(
            f"the loss turned its value into a {type(value).__name__}, through which nothing can "
            "be differentiated; return the scalar itself, or (value, gradients)"
        )
    return TypeError(f"the loss returned {value!r}, wanted a scalar array, or (value, gradients)")


def without_none(arrays: Sequence[Array | None]) -> list[Array]:
    """Return the arrays that there are."""
    return [x for x in arrays if x is not None]


def known_scalar(loss: Any) -> bool:
    """Whether a loss is known to return a scalar."""
    try:
        return loss in _SCALAR
    except TypeError:
        return False


def remember_scalar(loss: Any) -> None:
    """Remember that a loss returns a scalar."""
    # A bound method is a new, short-lived object each time; some callables take no weak reference.
    with contextlib.suppress(TypeError):
        _SCALAR.add(loss)


def descent(g: Array) -> Array:
    """Return a gradient as the direction along which rules step."""
    # JAX and autograd return the conjugate of what torch returns and rules expect.
    return backend_of(g).xp.conj(g) if backend_of(g).dtype(g) in COMPLEX else g
