"""Explaining which engine serves which arrays, and why."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from ._typing import Tree
from .arrays.backend import itemsize
from .arrays.libraries import backend_of, type_name
from .finding import get
from .optimizer import Optimizer
from .step.session import session_of
from .wrappers import Wrapper

_FUSED = {
    "cpu": "one compiled loop serves all of this kind",
    "gpu": "one kernel serves all of this kind",
    "offload": "one compiled loop serves all of this kind on the host, where their state is",
}

_SWEEPS = {
    "cpu": "{} compiled loops, one after another, go through all of this kind",
    "gpu": "{} kernels, one after another, go through all of this kind",
}


@dataclass(frozen=True)
class Group:
    """Parameters that an engine steps for the same reason.

    Attributes
    ----------
    engine : {"cpu", "gpu", "offload", "array", "array, compiled"}
        The engine.
    reason : str
        Why that engine was chosen.
    library, dtype : str
        The array library, and the dtype.
    arrays, elements : int
        Number of arrays, and of their elements.
    bytes : int
        Minimum number of bytes that a step reads and writes: parameters, gradients and state.
    bandwidth : float or None
        Bytes per second of the CPU engine's last sweep; None before the first step and for other
        engines.
    """

    engine: str
    reason: str
    library: str
    dtype: str
    arrays: int
    elements: int
    bytes: int
    bandwidth: float | None


@dataclass(frozen=True)
class Explanation:
    """The result of `explain`; prints as a table.

    Attributes
    ----------
    optimizer : str
        The optimizer.
    groups : tuple of Group
        The groups, by decreasing bytes.
    """

    optimizer: str
    groups: tuple[Group, ...]

    def __str__(self) -> str:
        """Return a line for each group."""
        lines = [self.optimizer]
        for group in self.groups:
            speed = f", {group.bandwidth / 1e9:.1f} GB/s" if group.bandwidth else ""
            arrays = "array" if group.arrays == 1 else "arrays"
            lines.append(
                f"  {group.engine}: {group.arrays:,} {group.library} {arrays} of {group.dtype}, "
                f"{group.elements:,} elements, {group.bytes / 1e6:,.3f} MB a step{speed}"
                f"\n    {group.reason}"
            )
        return "\n".join(lines)

    __repr__ = __str__


def explain(params: Tree, optimizer: str | Optimizer | Wrapper = "adam") -> Explanation:
    """Explain for each group of parameters which engine steps it and why, and the bytes moved.

    Parameters
    ----------
    params : tree of arrays
        The parameters, which are not changed.
    optimizer : str, Optimizer or Wrapper
        The optimizer, or its name. For one that has stepped these parameters, the result includes
        the bandwidth of its last step. For one without state, a temporary copy is inspected, which
        needs the memory of its state. Of a wrapper, the inner optimizer is inspected, without the
        wrapper's own state.

    Returns
    -------
    Explanation
        The groups; prints as a table.

    Raises
    ------
    TypeError
        If the optimizer is another library's, which does not use these engines, or a parameter is
        not an array.
    ValueError
        If the name is unknown, or the optimizer's state belongs to other parameters.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> print(ao.explain([np.zeros(1000, np.float32)], "sgd"))
    SGD(lr=0.01, momentum=0.0, decay=0.0, nesterov=False)
      cpu: 1 numpy array of float32, 1,000 elements, 0.020 MB a step
        one compiled loop serves all of this kind
    """
    stepping = _stepping(optimizer)
    session = session_of(stepping)
    with session.lock:
        leaves, structure = session.flat(params)
        engines = session.engines(leaves, structure)
        assert session.state is not None
        slots, sweeps = session.state.slots, engines.sweeps()
        counts = [sweeps.get(i, 1) for i in range(len(leaves))]
        rows = list(zip(leaves, slots, engines.served, engines.reasons, counts, strict=True))
    found: dict[tuple[str, str, str, str], list[tuple[int, int]]] = {}
    for p, held, engine, reason, count in rows:
        if p is None:
            continue
        library, dtype = backend_of(p), backend_of(p).dtype(p)
        name = "array, compiled" if library.compiles else "array"
        kind = (engine, _served(engine, count)) if engine else (name, str(reason))
        moved = sum(2 * _bytes(s) for s in held.values()) + 2 * _bytes(p) + _bytes(p)
        found.setdefault((*kind, library.name, dtype), []).append((prod(p.shape), moved))
    total = sum(b for key, rows in found.items() if key[0] == "cpu" for _, b in rows)
    seconds = engines.seconds
    groups = [
        Group(
            *key,
            arrays=len(rows),
            elements=sum(n for n, _ in rows),
            bytes=sum(b for _, b in rows),
            bandwidth=total / seconds if key[0] == "cpu" and seconds else None,
        )
        for key, rows in found.items()
    ]
    return Explanation(repr(stepping), tuple(sorted(groups, key=lambda group: -group.bytes)))


def _served(engine: str, sweeps: int) -> str:
    """Return what serves the parameters of a fused engine."""
    if sweeps > 1 and engine in _SWEEPS:
        return _SWEEPS[engine].format(sweeps)
    return _FUSED[engine]


def _stepping(optimizer: Any) -> Optimizer:
    """Return the innermost optimizer of wrappers, or a copy if it has no state yet."""
    config = isinstance(optimizer, dict) and "class_name" in optimizer
    if isinstance(optimizer, dict | list | tuple) and not config:
        raise TypeError(
            f"explain: found {type_name(type(optimizer))}, wanted an optimizer or its name; the "
            "order is explain(params, optimizer)"
        )
    found: Any = get(optimizer)
    while isinstance(found, Wrapper):
        found = found.inner
    if not isinstance(found, Optimizer):
        raise TypeError(
            f"explain: found {found!r}, wanted an arrayoptim optimizer, a wrapper around one, or "
            "its name; optimizers of other libraries do their own arithmetic"
        )
    return found if found.built else found.again()


def _bytes(x: Any) -> int:
    return int(prod(x.shape)) * itemsize(backend_of(x).dtype(x))
