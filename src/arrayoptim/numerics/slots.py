"""How slots are stored: in the compute dtype, in bfloat16, or in 8-bit codes.

Codes and stochastic rounding are defined on host arrays, see `int8` and `rounding`; the fused
engines compute the same, and on a GPU the array engine copies to the host and back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import numpy as np

from .._typing import Array
from ..arrays.libraries import COMPLEX, COMPUTE, HALF, Backend, backend_of
from ..rules.nonnegative import nonnegative_slots
from ..rules.rule import Rule
from .int8 import GROUP, decode, encode
from .rounding import random_bits, stochastic_bfloat16

Start = float | Literal["parameter"] | None
"""The initial value of a slot: a number, the parameter, or zero."""

EXPONENTS = "_exponents"
"""Suffix of the slot name under which the exponents of its codes are stored."""


@dataclass(frozen=True)
class Layout:
    """Which slots parameters have, and how they are stored.

    Attributes
    ----------
    rule : Rule
        The update rule, whose slots come first.
    extras : tuple of str
        Slots of stages: ``master`` or ``compensation`` (16-bit parameters only), ``average``.
    storage : {"bfloat16", "int8"} or None
        How the rule's slots are stored; None for the compute dtype. Slots whose shape is not the
        parameter's, and those that the rule needs exact, always use the compute dtype.
    constraint : Constraint or None
        The constraint on the parameters, if it is not elementwise.
    spares : bool
        Whether decay comes between the rule and the constraint.
    """

    rule: Rule
    extras: tuple[str, ...] = ()
    storage: str | None = None
    constraint: Any = None
    spares: bool = False

    def slots(self, dtype: str) -> dict[str, str]:
        """Return the dtype of each slot of a parameter with the given dtype."""
        kind = dtype if dtype in COMPLEX else COMPUTE[dtype]
        small = self.storage if dtype not in COMPLEX else None
        stored, inexact = {"int8": "uint8", None: kind}.get(small, small), self._inexact()
        found = {name: str(stored) if name in inexact else kind for name in self.rule.slots}
        if small == "int8":
            found |= {name + EXPONENTS: "int16" for name in inexact}
        if dtype in HALF:
            found |= {name: kind for name in self.extras if name == "master"}
            found |= {name: dtype for name in self.extras if name == "compensation"}
        return found | {name: kind for name in self.extras if name == "average"}

    def shapes(self, shape: tuple[int, ...], dtype: str) -> dict[str, tuple[int, ...]]:
        """Return the shape of each slot of a parameter with the given shape and dtype."""
        own, groups = self.rule.slot_shapes(shape), (-(-prod(shape) // GROUP),)
        return {
            name: own.get(name, groups if name.endswith(EXPONENTS) else shape)
            for name in self.slots(dtype)
        }

    def names(self) -> tuple[str, ...]:
        """Return the names of all slots that a parameter may have, in weight order."""
        exponents = [name + EXPONENTS for name in self._inexact() if self.storage == "int8"]
        return (*self.rule.slots, *exponents, *self.extras)

    def _inexact(self) -> list[str]:
        return [
            name
            for name in self.rule.slots
            if name not in self.rule.exact and name not in self.rule.apart
        ]

    def initial(
        self,
        p: Array,
        shape: tuple[int, ...],
        dtype: str,
        starts: Mapping[str, Start],
        part: Callable[[tuple[int, ...]], tuple[int, ...]] = tuple,
    ) -> dict[str, Array]:
        """Create the slots of a parameter.

        Parameters
        ----------
        p : array
            The parameter, or another array of the same library and device.
        shape : tuple of int
            The parameter's shape.
        dtype : str
            Its dtype.
        starts : mapping of str to float or "parameter"
            The initial values of the rule's slots, zero by default. The average starts as the
            parameter.
        part : callable
            Returns the local shape of a slot, given its global one; the same by default.

        Raises
        ------
        ValueError
            If 8-bit codes are wanted and the library does not support them.
        """
        backend, slots = backend_of(p), self.slots(dtype)
        if "uint8" in slots.values() and not _has_codes(backend, p):
            raise ValueError(f'state_dtype="int8" {_SERVES}, found a {backend.name} array')
        starts = {**starts, "average": "parameter"}
        with backend.guard(p):
            own = self.rule.slot_shapes(shape)
            return {
                name: self._start(
                    *(backend, name, kind, p, part(own.get(name, shape))),
                    starts.get(name.removesuffix(EXPONENTS)),
                )
                for name, kind in slots.items()
            }

    def _start(
        self,
        backend: Backend,
        name: str,
        kind: str,
        p: Array,
        shape: tuple[int, ...],
        start: Start,
    ) -> Array:
        """Create a slot; a constant one needs no temporary memory."""
        coded, wide = kind in {"uint8", "int16"}, kind
        if kind not in {"float64", *COMPLEX}:
            wide = "float32"
        if start == "parameter" and tuple(p.shape) == shape:
            x = backend.copy(backend.cast(p, wide))
            if not coded:
                return backend.cast(x, kind)
            codes = encode(_host(backend, x), self._signed(name.removesuffix(EXPONENTS)))
            return _back(backend, codes[kind == "int16"], kind, p)
        number = 0.0 if start is None or start == "parameter" else start
        if coded:
            return self._constant(backend, name, kind, p, shape, number)
        if not number:
            return backend.zeros(p, kind, shape)
        value = complex(number, number) if kind in COMPLEX else number
        if wide == kind or not backend.mutable:
            return backend.cast(backend.filled(p, wide, shape, value), kind)
        x = backend.zeros(p, kind, shape)
        backend.store(x, backend.cast(backend.filled(p, wide, (), value), kind))
        return x

    def _constant(
        self,
        backend: Backend,
        name: str,
        kind: str,
        p: Array,
        shape: tuple[int, ...],
        number: float,
    ) -> Array:
        """Return the codes, or the exponents, of an array filled with one number."""
        block = np.full(GROUP, number, np.float32)
        codes, exponents = encode(block, self._signed(name.removesuffix(EXPONENTS)))
        if kind == "int16":
            count = -(-prod(shape) // GROUP)
            return _back(backend, np.full(count, exponents[0]), kind, p)
        x = backend.zeros(p, kind, shape)
        backend.store(x, backend.from_host(codes[0], backend.zeros(x, kind, ())))
        return x

    def _signed(self, name: str) -> bool:
        return not nonnegative_slots(self.rule)[self.rule.slots.index(name)]

    def load(self, slots: Mapping[str, Array], name: str) -> Array:
        """Return a slot of the rule, decoded but not yet cast to the compute dtype."""
        x = slots[name]
        if name + EXPONENTS not in slots:
            return x
        backend = backend_of(x)
        exponents = _host(backend, slots[name + EXPONENTS])
        values = decode(_host(backend, x), exponents, self._signed(name))
        return _back(backend, values, "float32", x)

    def save(
        self, old: Mapping[str, Array], name: str, x: Array, seed: int | None, leaf: int
    ) -> dict[str, Array]:
        """Return a slot of the rule in its storage format.

        Parameters
        ----------
        old : mapping of str to array
            The current slots.
        name : str
            The slot.
        x : array
            Its new value in the compute dtype.
        seed : int or None
            The seed of the step if rounding is stochastic.
        leaf : int
            Index of the parameter among all leaves.

        Raises
        ------
        ValueError
            If stochastic rounding is wanted and the library does not support it.
        """
        backend = backend_of(old[name])
        kind = backend.dtype(old[name])
        coded = name + EXPONENTS in old
        if not coded and (seed is None or kind != "bfloat16"):
            return {name: backend.array(backend.cast(x, kind))}
        if not _has_codes(backend, old[name]):
            raise ValueError(f"stochastic rounding {_SERVES}, found a {backend.name} array")
        # Random bits and codes follow the memory order of the slot, which may differ from that of
        # x.
        room = backend.zeros(old[name], "float32")
        backend.store(room, backend.cast(x, "float32"))
        values = _host(backend, room)
        place = self.rule.slots.index(name)
        bits = None if seed is None else random_bits(seed, leaf, place, values.size)
        if coded or bits is None:
            codes, exponents = encode(values, self._signed(name), bits)
            return {
                name: _back(backend, codes, "uint8", old[name]),
                name + EXPONENTS: _back(backend, exponents, "int16", old[name]),
            }
        rounded = _back(backend, stochastic_bfloat16(values, bits), "float32", old[name])
        return {name: backend.array(backend.cast(rounded, kind))}


_SERVES = "serves NumPy and CuPy arrays and torch tensors"


def _host(backend: Backend, x: Array) -> np.ndarray[Any, Any]:
    """Return an array in host memory, in the same memory order, as a view if possible."""
    view = backend.host_view(x)
    if view is not None:
        return view
    steps = backend.steps(x)
    axes = sorted(range(len(steps)), key=lambda axis: -abs(steps[axis]))
    ordered = np.ascontiguousarray(backend.to_host(x).transpose(axes))
    found: np.ndarray[Any, Any] = ordered.transpose(np.argsort(axes))
    return found


def _back(backend: Backend, value: np.ndarray[Any, Any], dtype: str, like: Array) -> Array:
    """Return a host array as an array of the library, on the device of `like`."""
    if backend.host_view(like) is not None:
        return backend.wrap(value.astype(dtype, copy=False))
    return backend.from_host(value, backend.zeros(like, dtype, value.shape))


def _has_codes(backend: Backend, x: Array) -> bool:
    """Whether an array's library supports 8-bit codes and stochastic rounding."""
    if backend.name == "torch":
        return bool(backend.valued(x))
    return backend.name in {"numpy", "cupy"}
