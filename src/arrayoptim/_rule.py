"""Update rules: small pure functions that every engine runs; `_grammar` says how they look."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, Literal

Kind = Literal["elementwise", "tensorwise", "matrix"]
Side = Literal["first", "last"]
Shape = tuple[int, ...]

RESERVED = frozenset({"scale", "bound", "l2", "amount", "keep", "new"})
"""Names of the numbers of stages, which no coefficient may have."""


@dataclass(frozen=True, eq=False)
class Rule:
    """An update rule with the names of its slots and coefficients.

    Attributes
    ----------
    function : callable
        ``function(p, g, *slots, *coefficients, xp)``; returns the new parameter and the new slots,
        in order.
    slots : tuple of str
        Names of the state arrays, one of each per parameter, all zero before the first step.
    kind : {"elementwise", "tensorwise", "matrix"}
        What an engine may fuse.
    ratio : callable or None
        For ``tensorwise`` rules, ``ratio(size, p, d, *coefficients, xp)``, with the number of
        elements and the norms of the parameter and of its direction; returns a dict of the
        coefficients that each tensor has for itself.
    direction : callable or None
        ``direction(p, g, *slots, *coefficients, xp)``; returns what takes the place of the gradient
        and of the slots before the norms are taken and the function is called.
    measured : tuple of str
        Names of the coefficients that `ratio` gives.
    shapes : callable or None
        For ``matrix`` rules, ``shapes(rows, columns)``; returns a dict of the shapes of those slots
        that are not shaped like the parameter.
    outputs : {"first", "last"}
        For ``matrix`` rules, which axis of a parameter with more than two stays an axis of the
        matrix; all others become the other one.
    """

    function: Callable[..., tuple[Any, ...]]
    slots: tuple[str, ...]
    kind: Kind = "elementwise"
    ratio: Callable[..., dict[str, Any]] | None = None
    direction: Callable[..., tuple[Any, ...]] | None = None
    measured: tuple[str, ...] = ()
    shapes: Callable[[int, int], dict[str, Shape]] | None = None
    outputs: Side = "first"

    @cached_property
    def function_names(self) -> tuple[str, ...]:
        """Names of the coefficients that the function takes."""
        return tuple(inspect.signature(self.function).parameters)[2 + len(self.slots) : -1]

    @cached_property
    def direction_names(self) -> tuple[str, ...]:
        """Names of the coefficients that the direction takes."""
        if self.direction is None:
            return ()
        return tuple(inspect.signature(self.direction).parameters)[2 + len(self.slots) : -1]

    @cached_property
    def ratio_names(self) -> tuple[str, ...]:
        """Names of the coefficients that the ratio takes."""
        return tuple(inspect.signature(self.ratio).parameters)[3:-1] if self.ratio else ()

    @cached_property
    def coefficients(self) -> tuple[str, ...]:
        """Names of all scalars that an element's step takes."""
        return tuple(dict.fromkeys((*self.function_names, *self.direction_names)))

    @cached_property
    def given(self) -> tuple[str, ...]:
        """Names of the coefficients that the optimizer class computes once a step."""
        names = dict.fromkeys((*self.coefficients, *self.ratio_names))
        return tuple(name for name in names if name not in self.measured)

    @property
    def name(self) -> str:
        """Name of the function."""
        return self.function.__name__

    @cached_property
    def apart(self) -> frozenset[str]:
        """Names of the slots that have shapes of their own."""
        return frozenset(self.shapes(1, 1)) if self.shapes else frozenset()

    def matrix(self, shape: Shape) -> tuple[int, int]:
        """Give the rows and columns as which a ``matrix`` rule steps a parameter of some shape."""
        if self.outputs == "first":
            return (shape[0] if shape else 1), prod(shape[1:])
        return prod(shape[:-1]), (shape[-1] if shape else 1)

    def slot_shapes(self, shape: Shape) -> dict[str, Shape]:
        """Give the shape of each slot of a parameter of some shape."""
        own = self.shapes(*self.matrix(shape)) if self.shapes else {}
        return {name: own.get(name, shape) for name in self.slots}

    def stepped(
        self, operands: Sequence[Any], scalars: Mapping[str, Any], shape: Shape, xp: Any
    ) -> list[Any]:
        """Carry out the function on parameter, gradient and slots; matrices if it is for these.

        The arrays may have more axes than `shape` in front, over as many parameters.
        """
        named = [scalars[name] for name in self.function_names]
        if self.kind != "matrix":
            return list(self.function(*operands, *named, xp))
        lead = tuple(operands[0].shape)[: len(operands[0].shape) - len(shape)]
        own, matrix = self.slot_shapes(shape), self.matrix(shape)
        views = [matrix, matrix, *(own[n] if n in self.apart else matrix for n in self.slots)]
        seen = [xp.reshape(x, (*lead, *v)) for x, v in zip(operands, views, strict=True)]
        given = {id(view): x for view, x in zip(seen, operands, strict=True)}
        found = self.function(*seen, *named, xp)
        wanted = [shape, *own.values()]
        return [
            given[id(x)] if id(x) in given else xp.reshape(x, (*lead, *s))
            for x, s in zip(found, wanted, strict=True)
        ]

    def turned(self, operands: Sequence[Any], scalars: Mapping[str, Any], xp: Any) -> list[Any]:
        """Give parameter, gradient and slots with the direction in the gradient's place."""
        if self.direction is None:
            return list(operands)
        named = (scalars[name] for name in self.direction_names)
        return [operands[0], *self.direction(*operands, *named, xp)]

    def __call__(self, *args: Any) -> tuple[Any, ...]:
        """Carry out the rule on parameter, gradient, slots, `coefficients` and `xp`."""
        count = 2 + len(self.slots)
        scalars, xp = dict(zip(self.coefficients, args[count:-1], strict=True)), args[-1]
        operands = self.turned(args[:count], scalars, xp)
        return self.function(*operands, *(scalars[name] for name in self.function_names), xp)

    def __repr__(self) -> str:
        """Name, slots and coefficients."""
        slots, coefficients = ", ".join(self.slots), ", ".join(self.coefficients)
        return f"<rule {self.name}: slots ({slots}), coefficients ({coefficients})>"


def rule(
    *,
    slots: tuple[str, ...] = (),
    kind: Kind = "elementwise",
    ratio: Callable[..., dict[str, Any]] | None = None,
    direction: Callable[..., tuple[Any, ...]] | None = None,
    measured: tuple[str, ...] = (),
    shapes: Callable[[int, int], dict[str, Shape]] | None = None,
    outputs: Side = "first",
) -> Callable[[Callable[..., tuple[Any, ...]]], Rule]:
    """Declare a function as an update rule.

    Parameters
    ----------
    slots : tuple of str
        Names of the state arrays; the function takes one positional parameter for each, after ``p``
        and ``g``, under a letter of its own.
    kind : {"elementwise", "tensorwise", "matrix"}
        What an engine may fuse; ``"tensorwise"`` where there is a ratio.
    ratio : callable, optional
        Gives coefficients that each tensor has for itself, from norms; see `Rule`.
    direction : callable, optional
        Turns the gradient into a direction, and advances the slots; see `Rule`.
    measured : tuple of str
        Names of the coefficients that `ratio` gives.
    shapes : callable, optional
        Gives the shapes of slots of a ``"matrix"`` rule; see `Rule`.
    outputs : {"first", "last"}
        How a ``"matrix"`` rule sees parameters of more than two axes; see `Rule`.

    Returns
    -------
    callable
        A decorator that makes a `Rule`.

    Raises
    ------
    TypeError
        If the signature is not ``(p, g, <slots>, <coefficients>, xp)``, or `shapes` are given for
        other rules or other slots.

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
        for each in (function, direction):
            names = tuple(inspect.signature(each).parameters) if each else ()
            short = len(names) < len(slots) + 3
            if each and (short or names[:2] != ("p", "g") or names[-1] != "xp"):
                raise TypeError(
                    f"rule {function.__name__} takes ({', '.join(names)}); wanted: p, g, one "
                    f"parameter for each of the slots {slots}, the coefficients, xp"
                )
        taken = RESERVED & set(inspect.signature(function).parameters)
        if taken:
            raise TypeError(
                f"rule {function.__name__}: {', '.join(sorted(taken))} is the name of a number of "
                "a stage of the step; choose another"
            )
        sort: Kind = "tensorwise" if ratio else kind
        made = Rule(
            function, tuple(slots), sort, ratio, direction, tuple(measured), shapes, outputs
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
        return made

    return declare
