"""Warnings about discarded results, and about parameters passed in place of gradients."""

from __future__ import annotations

import sys
import warnings
import weakref
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from .._typing import Array
from ..arrays.libraries import backend_of, type_name

Reference: TypeAlias = Callable[[], Any] | None
"""Returns the array, or None once it has been freed."""

_Seen = tuple[Reference, Reference, bool]
"""The first parameter that could not be written, its replacement, and whether we have warned."""

_SEEN: weakref.WeakKeyDictionary[Any, _Seen] = weakref.WeakKeyDictionary()


def note(optimizer: Any, leaves: Sequence[Array | None], new: Sequence[Array | None]) -> None:
    """Warn once if old parameters are passed again and the new ones have been discarded.

    Parameters
    ----------
    optimizer : Optimizer
        The optimizer that has stepped.
    leaves, new : sequence of array or None
        Parameters as passed by the caller, and as returned.
    """
    old, given, told = _SEEN.get(optimizer, (None, None, False))
    if told or not optimizer.results_count:
        return
    first = _alive(old)
    if first is not None and _alive(given) is None and any(x is first for x in leaves):
        kind = type(first)
        warnings.warn(
            f"{type(optimizer).__name__}.apply was called with the same {type_name(kind)} "
            "as in the last step, whose result was discarded: arrays that "
            "cannot be written are replaced by new ones, so use the result, "
            "params = optimizer.apply(grads, params)",
            stacklevel=_outside(),
        )
        _SEEN[optimizer] = (None, None, True)
        return
    pair = next((row for row in zip(leaves, new, strict=True) if row[0] is not row[1]), None)
    if pair is not None:
        _SEEN[optimizer] = (_reference(pair[0]), _reference(pair[1]), False)


def forget(optimizer: Any) -> None:
    """Forget the results of the last step, which the caller never received due to an interrupt."""
    _SEEN.pop(optimizer, None)


def _reference(x: Any) -> Reference:
    try:
        return weakref.ref(x)
    except TypeError:  # a NumPy scalar; too small to matter
        return lambda: x


def _alive(reference: Reference) -> Any:
    return None if reference is None else reference()


def _outside() -> int:
    """Return the stack level of the first caller outside this library."""
    frame, level = sys._getframe(2), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("arrayoptim"):
        frame, level = frame.f_back, level + 1
    return level


def first_of(arrays: Sequence[Array | None]) -> Reference:
    """Return a weak reference to the first array."""
    first = next((x for x in arrays if x is not None), None)
    return None if first is None else _reference(first)


def refuse_swapped(
    gradients: Sequence[Array | None], leaves: Sequence[Array | None], known: Reference
) -> None:
    """Refuse swapped arguments, where it can be detected that gradients and parameters are swapped.

    Parameters
    ----------
    gradients, leaves : sequence of array or None
        The arrays passed as gradients and as parameters.
    known : reference
        What `first_of` returned for the parameters of the last step; None before the first.

    Raises
    ------
    ValueError
        If the arguments are swapped.
    """
    pairs = [
        (g, p) for g, p in zip(gradients, leaves, strict=True) if g is not None and p is not None
    ]
    fault = ""
    old, first = _alive(known), next((g for g in gradients if g is not None), None)
    if old is not None and first is old and not any(p is old for p in leaves):
        fault = "the gradients passed are the arrays that were the parameters of the steps before"
    elif pairs and all(_leaf(g) and not _leaf(p) for g, p in pairs):
        fault = "the gradients passed are leaf tensors that require gradients, as parameters do"
    if fault:
        raise ValueError(f"{fault}; wanted apply(grads, params), the gradients first")


def _leaf(x: Array) -> bool:
    if backend_of(x).name != "torch":
        return False
    return bool(x.requires_grad and x.is_leaf)
