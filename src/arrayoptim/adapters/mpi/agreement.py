"""What processes must agree on before they take a step together."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...arrays.trees import Structure
from ...config.registry import describe
from ...optimizer import Optimizer
from ...step.session import Session
from ...wrappers import Wrapper
from .communication import Links

Array = Any
_OWN = frozenset({"inner", "groups", "name", "threads"})
"""Hyperparameters that may differ between processes, or that are compared separately."""


def compared(
    links: Links, act: Callable[[], tuple[Any, Sequence[int]]], count: int
) -> tuple[Any, list[bool]]:
    """Run a function on all processes, and compare numbers that each of them computes.

    This takes one message, however many numbers there are.

    Parameters
    ----------
    links : Links
        The processes.
    act : callable
        Returns a local result, and the numbers.
    count : int
        How many numbers there are.

    Returns
    -------
    found : object
        The local result.
    same : list of bool
        Whether each of the numbers is equal on all processes.

    Raises
    ------
    Exception
        The error raised by `act` on this process.
    RuntimeError
        If `act` raised an error on another process.
    """
    found, error, row = None, None, np.zeros(1 + 2 * count, np.int64)
    try:
        found, numbers = act()
        row[1:] = [*numbers, *(-x for x in numbers)]
    except Exception as raised:
        error = raised
        row[0] = 1
    failed, *most = links.greatest(row).tolist()
    if not failed:
        return found, [a == -b for a, b in zip(most[:count], most[count:], strict=True)]
    words = links.comm.allgather(None if error is None else str(error))
    if error is not None:
        raise error
    first = next(k for k, each in enumerate(words) if each is not None)
    raise RuntimeError(f"process {first} could not take part: {words[first]}")


def together(links: Links, act: Callable[[], Any]) -> Any:
    """Run a function on all processes, and return its local result; see `compared`."""
    return compared(links, lambda: (act(), ()), 0)[0]


def number_of(key: object) -> int:
    """Return a hash of an object's representation, equal on all processes."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:7], "big")


def key_of(leaves: Sequence[Array | None], structure: Structure, needs: Sequence[bool]) -> Any:
    """Return the values that determine which process has which piece.

    Parameters
    ----------
    leaves : sequence of array or None
        The parameters.
    structure : Structure
        Their structure.
    needs : sequence of bool
        Whether each parameter is stepped whole.
    """

    def kind(x: Array) -> tuple[Any, ...]:
        return tuple(x.shape), str(x.dtype), x.flags.c_contiguous, x.flags.f_contiguous

    return structure.paths, [None if x is None else kind(x) for x in leaves], list(needs)


def settings_of(optimizer: Any) -> list[Any]:
    """Return objects that are replaced whenever a hyperparameter is set."""
    if isinstance(optimizer, Wrapper):
        return [optimizer._hyper, *settings_of(optimizer.inner)]
    return [optimizer._session.settings] if isinstance(optimizer, Optimizer) else []


def words_of(optimizer: Any, prefix: str = "") -> dict[str, str]:
    """Return the hyperparameters that must be equal on all processes, as text."""
    found = {f"{prefix}class": type(optimizer).__name__}
    if isinstance(optimizer, Wrapper):
        found |= _texts(prefix, optimizer._hyper)
        return found | words_of(optimizer.inner, f"{prefix}inner.")
    if isinstance(optimizer, Optimizer):
        for member in optimizer._session.settings.members:
            rule = {"rule": member.formula.rule.name, "freeze": member.frozen}
            found |= _texts(prefix + member.prefix, {**member.values, **rule})
    return found


def _texts(prefix: str, values: Any) -> dict[str, str]:
    kept = {name: describe(value) for name, value in values.items() if name not in _OWN}
    # The address of a function says nothing about what it does.
    return {
        prefix + name: type(value).__name__ if callable(value) else repr(value)
        for name, value in kept.items()
    }


def refuse_different(links: Links, same: Sequence[bool], optimizer: Any, session: Session) -> None:
    """Raise on all processes if they disagree.

    Parameters
    ----------
    links : Links
        The processes.
    same : sequence of bool
        Whether parameters, hyperparameters and counts are equal on all processes.
    optimizer : Optimizer or Wrapper
        The optimizer.
    session : Session
        The session that counts its steps.

    Raises
    ------
    ValueError
        If something differs, on all processes.
    """
    parameters, settings, counts = same
    if not parameters:
        raise ValueError(
            "the processes have parameters with different paths, shapes, dtypes or memory "
            "layouts, or step them by different rules; wanted the same on all of them"
        )
    if not settings:
        rows: list[dict[str, str]] = links.comm.allgather(words_of(optimizer))
        names = list(dict.fromkeys(name for row in rows for name in row))
        name = next(n for n in names if len({row.get(n) for row in rows}) > 1)
        first, *others = (row.get(name) for row in rows)
        rank, other = next((k, x) for k, x in enumerate(others, 1) if x != first)
        raise ValueError(
            f"the processes have different hyperparameters: {name} is {first} on process 0 and "
            f"{other} on process {rank}; wanted the same on all of them"
        )
    if not counts:
        steps = links.comm.allgather(
            f"{session.iterations} steps" + ", and a loaded file" * bool(session.pending)
        )
        raise ValueError(
            f"the processes have taken different numbers of steps: {steps}; load the same file on "
            "all of them"
        )


def count_of(session: Session) -> int:
    """Return a hash of an optimizer's step count and loaded file."""
    return 4 * session.iterations + 2 * bool(session.pending) + (session.state is not None)
