"""Which parameters the CPU engine serves, and why not others."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec

import numpy as np

from ..._typing import Array
from ...arrays.backend import COMPUTE, FLOATS, reals
from ...numerics.rounding import GROUP
from ...rules.rule import Rule
from ..passes import passes
from .addresses import Reader
from .native import refusal as machine_refusal
from .numpy import NumPyReader
from .recipes import BY_CHANCE, EXPONENTS
from .torch import TorchReader


def refusal(rule: Rule, param: Array, slots: Mapping[str, Array]) -> str | None:
    """Return why the engine does not serve a parameter; None if it does.

    Parameters
    ----------
    rule : Rule
        The update rule.
    param : array
        The parameter.
    slots : mapping of str to array
        Its slots.

    Returns
    -------
    str or None
        The reason; None if the engine serves it.
    """
    plan = passes(rule)
    if rule.kind == "matrix" and plan is None:
        return f"the rule {rule.name} is no loop over elements"
    reason = compiler_refusal()
    if reason is not None:
        return reason
    reader = reader_of(param)
    if reader is None:
        return _strange(param)
    reason = reader.refusal(param, True) or _order_refusal(reader, param, param)
    if reason is None and reader.dtype(param) not in COMPUTE:
        reason = f"there is no arithmetic for {reader.dtype(param)}"
    if reason is None and plan is not None:
        reason = _matrix_refusal(reader, rule, param, slots)
    for name, array in slots.items():
        if reason is None and name not in rule.apart:
            reason = _slot_refusal(reader, name, array, param, slots)
    return reason or machine_refusal(map(reader.dtype, (param, *slots.values())))


def array_refusal(array: Array) -> str | None:
    """Return why loops over the memory of an array cannot be used; None if they can.

    Parameters
    ----------
    array : array
        The array, in any memory order.

    Returns
    -------
    str or None
        The reason, or None.
    """
    reader = reader_of(array)
    reason = compiler_refusal() or (None if reader else _strange(array))
    return reason or (reader and reader.refusal(array, False)) or machine_refusal(())


def _order_refusal(reader: type[Reader], array: Array, param: Array) -> str | None:
    if array.shape == param.shape and reader.dense(array, param):
        return None
    return "its elements are not contiguous in the parameter's memory order"


def _matrix_refusal(
    reader: type[Reader], rule: Rule, param: Array, slots: Mapping[str, Array]
) -> str | None:
    """Return why a parameter cannot be stepped by rows and columns."""
    dtype = reader.dtype(param)
    if reals(dtype) != dtype:
        return "a matrix of complex numbers has no rows and columns of numbers"
    if not reader.rowwise(param):
        return "its rows are not contiguous"
    wanted = rule.slot_shapes(tuple(param.shape))
    for name, array in slots.items():
        if name in rule.apart:
            reason = reader.refusal(array, True)
            good = not reason and reader.rowwise(array) and tuple(array.shape) == wanted[name]
            if not good or reader.dtype(array) != COMPUTE[dtype]:
                reason = reason or f"it is not an array of {COMPUTE[dtype]} of shape {wanted[name]}"
                return f"slot {name!r}: {reason}"
        elif name in rule.slots and reader.dtype(array) in BY_CHANCE:
            return f"slot {name!r}: totals along rows and columns want all of its bits"
    return None


def _slot_refusal(
    reader: type[Reader], name: str, array: Array, param: Array, slots: Mapping[str, Array]
) -> str | None:
    reason = reader.refusal(array, True)
    dtype = "" if reason else reader.dtype(array)
    if reason is None and name.endswith(EXPONENTS):
        groups = -(-math.prod(param.shape) // GROUP)
        good = dtype == "int16" and tuple(array.shape) == (groups,) and reader.dense(array, array)
        reason = None if good else f"it is not an array of {groups} int16"
    elif reason is None:
        coded = dtype == "uint8" and name + EXPONENTS in slots
        if dtype not in COMPUTE and not (coded and reader.dtype(param) in FLOATS):
            reason = f"there is no arithmetic for {dtype}"
        reason = reason or _order_refusal(reader, array, param)
    return reason and f"slot {name!r}: {reason}"


def _strange(array: Array) -> str:
    return f"a {type(array).__qualname__} is neither a NumPy array nor a torch tensor"


def compiler_refusal() -> str | None:
    """Return why nothing can be compiled here; None if it can."""
    if not _has_numba():
        return "Numba is not installed"
    # Cached kernels would work, but results must not depend on the cache.
    disabled = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")
    return "NUMBA_DISABLE_JIT is set" if disabled else None


@cache
def _has_numba() -> bool:
    return find_spec("numba") is not None


def reader_of(param: Array) -> type[Reader] | None:
    """Return the reader of an array's library; None if there is none."""
    if isinstance(param, np.ndarray):
        return NumPyReader
    torch = sys.modules.get("torch")
    return TorchReader if torch is not None and isinstance(param, torch.Tensor) else None
