"""Declarations of update rules: small pure functions that every engine runs, see `grammar`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from .form import Kind, Rule, Shape, Side, parameters
from .grammar import mistakes
from .stages import NUMBERS

__all__ = ["Rule", "Shape", "Side", "rule"]


def rule(
    *,
    slots: tuple[str, ...] = (),
    kind: Kind = "elementwise",
    ratio: Callable[..., dict[str, Any]] | None = None,
    direction: Callable[..., tuple[Any, ...]] | None = None,
    measured: tuple[str, ...] = (),
    measure: Callable[..., tuple[Any, ...]] | None = None,
    norms: tuple[str, ...] = (),
    sums: tuple[str, ...] = (),
    exact: tuple[str, ...] = (),
    shapes: Callable[..., dict[str, Shape]] | None = None,
    outputs: Side = "first",
    joint: Callable[..., Sequence[Any]] | None = None,
) -> Callable[[Callable[..., tuple[Any, ...]]], Rule]:
    """Declare a function as an update rule.

    Parameters
    ----------
    slots : tuple of str
        Names of the state arrays; the function takes one positional parameter for each, after
        ``p`` and ``g``, under any name.
    kind : {"elementwise", "tensorwise", "matrix"}
        What an engine may fuse; always ``"tensorwise"`` with a ratio or a measure.
    ratio : callable, optional
        Returns per-tensor coefficients, computed from totals; see `Rule`.
    direction : callable, optional
        Replaces the gradient by a direction, and updates the slots; see `Rule`.
    measured : tuple of str
        Names of the coefficients that `ratio` returns.
    measure : callable, optional
        Returns the arrays to be totalled; see `Rule`.
    norms, sums : tuple of str
        Names of the totals; see `Rule`.
    exact : tuple of str
        Slots that are always stored in the compute dtype, whatever `state_dtype` is.
    shapes : callable, optional
        Returns the shapes of slots of a ``"matrix"`` rule; see `Rule`.
    outputs : {"first", "last", "stack"}
        How a ``"matrix"`` rule receives parameters with more than two axes; see `Rule`.
    joint : callable, optional
        Replaces the directions of matrices that are stepped together; see `Rule`.

    Returns
    -------
    callable
        A decorator that turns a function into a `Rule`.

    Raises
    ------
    TypeError
        If the signature is not ``(p, g, <slots>, <coefficients>, xp)``; if the function is a
        lambda, returns a wrong number of values or uses an undefined name; or if `shapes` or
        `joint` is given for a rule that is not a matrix rule, or shapes of unknown slots.

    Examples
    --------
    >>> from arrayoptim import rule
    >>> @rule(slots=("momentum",))
    ... def heavy_ball(p, g, m, lr, mu, xp):
    ...     m = mu * m - lr * g
    ...     return p + m, m
    >>> heavy_ball.coefficients
    ('lr', 'mu')
    """

    def declare(function: Callable[..., tuple[Any, ...]]) -> Rule:
        if function.__name__ == "<lambda>":
            raise TypeError(
                "rule: found a lambda, wanted a function defined by def, whose source engines read"
            )
        for each in (function, direction, measure):
            names = parameters(each) if each else ()
            short = len(names) < len(slots) + 3
            if each and (short or names[:2] != ("p", "g") or names[-1] != "xp"):
                raise TypeError(
                    f"rule {function.__name__} takes ({', '.join(names)}); wanted: p, g, one "
                    f"parameter for each of the slots {slots}, the coefficients, xp"
                )
        taken = set(NUMBERS) & set(parameters(function))
        if taken:
            raise TypeError(
                f"rule {function.__name__}: {', '.join(sorted(taken))} is the name of a scalar of "
                "a stage; choose another"
            )
        sort: Kind = "tensorwise" if ratio or measure else kind
        made = Rule(
            function,
            tuple(slots),
            sort,
            ratio,
            direction,
            tuple(measured),
            measure=measure,
            norms=norms if measure or not ratio else ("p", "d"),
            sums=sums,
            exact=exact,
            shapes=shapes,
            outputs=outputs,
            joint=joint,
        )
        if bool(measure) != bool(norms or sums):
            raise TypeError(
                f"rule {function.__name__}: found measure={measure}, norms={norms} and sums={sums};"
                " wanted a measure and names of its results, or neither"
            )
        if joint and sort != "matrix":
            raise TypeError(
                f'rule {function.__name__}: found a joint and kind {sort!r}; wanted kind "matrix"'
            )
        if (shapes and sort != "matrix") or not made.apart <= set(slots):
            raise TypeError(
                f"rule {function.__name__}: found shapes of {sorted(made.apart)} and kind "
                f'{sort!r}; wanted kind "matrix", and names of {slots}'
            )
        if bool(ratio) != bool(measured) or not set(measured) <= set(made.function_names):
            raise TypeError(
                f"rule {function.__name__}: found measured={measured} and ratio={ratio}; wanted "
                f"both or neither, and names of {made.function_names}"
            )
        _require_sound(made)
        return made

    return declare


def _require_sound(made: Rule) -> None:
    """Refuse a rule that no engine could run, if its source is available."""
    # The library's own rules are checked by tests; here it would take a seventh of import time.
    if str(made.function.__module__).startswith("arrayoptim."):
        return
    found: list[str] = []
    with contextlib.suppress(OSError, SyntaxError, ValueError):
        found = mistakes(made)
    if found:
        raise TypeError(f"rule {made.name}: {'; '.join(found)}")
