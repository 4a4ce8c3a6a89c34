"""Norms of gradients, updates and weights, for reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .._typing import Array, Scalar
from ..arrays.libraries import COMPLEX, HALF, backend_of
from ..arrays.rows import stored
from ..gradients import stays_on_device, unread_norm
from ..rules.stages import heal
from .sharding import Spread, norms_of

__all__ = ["any_on_device", "gradient_norms", "kept", "update_and_weight"]

Norms = Sequence[Scalar | None]
Slots = Mapping[str, Array]


def any_on_device(arrays: Sequence[Array | None]) -> bool:
    """Whether reading norms of these arrays makes the host wait for a device."""
    return any(x is not None and stays_on_device(x) for x in arrays)


def gradient_norms(gradients: Sequence[Array | None]) -> Norms:
    """Return the norm of each gradient, as a scalar on its device."""
    return [None if g is None else unread_norm(g) for g in stored(gradients)]


def kept(
    leaves: Sequence[Array | None], slots: Sequence[Slots], gradients: Sequence[Array | None]
) -> list[Array | None]:
    """Return copies of the parameters before a step, in memory that the step does not write.

    Only parameters with a gradient are copied; of 16-bit ones the float32 master, if any.
    """
    return [
        None if p is None or g is None else _kept(p, held)
        for p, held, g in zip(leaves, slots, gradients, strict=True)
    ]


def _kept(p: Array, slots: Slots) -> Array:
    backend = backend_of(p)
    with backend.guard(p):
        if (master := _master(p, slots)) is not None:
            rounded = backend.cast(master, backend.dtype(p))
            wide, known = (backend.cast(x, "float32") for x in (p, rounded))
            return backend.array(heal(wide, master, known, backend.xp))
        return backend.copy(p) if backend.writable(p) else p


def _master(p: Array, slots: Slots) -> Array | None:
    """Return the float32 master of a 16-bit parameter, if there is one on the same device."""
    master = slots.get("master")
    if master is None or backend_of(p).dtype(p) not in HALF:
        return None
    same = backend_of(master) is backend_of(p)
    return master if same and backend_of(p).device(master) == backend_of(p).device(p) else None


def update_and_weight(
    wanted: Sequence[str],
    before: Sequence[Array | None],
    leaves: Sequence[Array | None],
    slots: Sequence[Slots],
    spread: Spread | None = None,
) -> dict[str, Norms]:
    """Return the norms of a step's changes to the parameters, and of the parameters after it.

    Parameters
    ----------
    wanted : sequence of str
        Which of ``"update"`` and ``"weight"``.
    before : sequence of array or None
        The result of `kept` before the step; not used for ``"weight"``.
    leaves : sequence of array or None
        The parameters after it.
    slots : sequence of dict
        Their slots.
    spread : Spread, optional
        How the arrays are sharded over processes.
    """
    now = [None if p is None else _now(p, held) for p, held in zip(leaves, slots, strict=True)]
    found: dict[str, Norms] = {}
    if "update" in wanted:
        moved = [
            None if p is None or q is None else unread_norm(_difference(p, q))
            for p, q in zip(now, before, strict=True)
        ]
        found["update"] = _whole(moved, spread)
    if "weight" in wanted:
        sizes = [None if p is None else unread_norm(p) for p in now]
        found["weight"] = _whole(sizes, spread)
    return found


def _now(p: Array, slots: Slots) -> Array:
    master = _master(p, slots)
    return p if master is None else master


def _difference(p: Array, q: Array) -> Array:
    backend = backend_of(p)
    with backend.guard(p):
        kind = backend.dtype(p)
        if kind not in COMPLEX:
            # In 16 bits, a small difference of large numbers would be rounded again.
            wide = "float64" if kind == "float64" else "float32"
            p, q = backend.cast(p, wide), backend.cast(q, wide)
        return backend.array(p - q)


def _whole(norms: Norms, spread: Spread | None) -> Norms:
    if spread is None:
        return norms
    whole = norms_of(spread, {i: float(x) for i, x in enumerate(norms) if x is not None})
    return [whole.get(i) for i in range(len(norms))]
