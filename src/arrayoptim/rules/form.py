"""The structure of a rule: its functions, with the names of its slots and coefficients."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from types import FunctionType
from typing import Any, Literal

__all__ = ["Kind", "Rule", "Shape", "Side", "parameters"]

Kind = Literal["elementwise", "tensorwise", "matrix"]
Shape = tuple[int, ...]
Side = Literal["first", "last", "stack"] | Callable[[Shape], Shape]

_MORE = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS


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
        Which arrays one evaluation needs, and so what an engine may fuse.
    ratio : callable or None
        ``ratio(size, *totals, *coefficients, xp)``, given the number of a tensor's entries and
        its totals; returns a dict of the per-tensor coefficients.
    direction : callable or None
        ``direction(p, g, *slots, *coefficients, xp)``; returns the values that replace the
        gradient and the slots before `measure` and `function` are called.
    measured : tuple of str
        Names of the coefficients that `ratio` returns.
    measure : callable or None
        ``measure(p, g, *slots, *coefficients, xp)``, called after `direction`; returns the arrays
        to be totalled. By default the parameter and its direction, if there is a ratio.
    norms, sums : tuple of str
        Names of the totals, in the order of the arrays from `measure`: first Euclidean norms, then
        sums. A ratio receives the totals of each tensor; without a ratio, they are taken over all
        tensors of a group and passed to `Optimizer.coefficients` with the scalars.
    exact : tuple of str
        Slots that are always stored in the compute dtype, whatever `state_dtype` is.
    masked : bool
        Whether the step is masked where it disagrees with the gradient; see `cautious`.
    shapes : callable or None
        For ``matrix`` rules, ``shapes(rows, columns)``; returns a dict with the shapes of the slots
        that are not shaped like the parameter.
    outputs : {"first", "last", "stack"} or callable
        For ``matrix`` rules, which axis of a parameter with more than two becomes the axis of
        outputs of the matrix; all others are merged into the other axis. With ``"stack"``, the
        rule receives the parameter itself, as a stack of matrices over its last two axes. A
        callable returns rows and columns for a shape.
    joint : callable or None
        For ``matrix`` rules, ``joint(directions, *coefficients, xp)``, called between `direction`
        and `function` with a list of directions, as matrices or stacks of matrices that may differ
        in shape; returns what replaces them, in the same shapes. Each result depends on its own
        direction only, but they may be computed together.
    """

    function: Callable[..., tuple[Any, ...]]
    slots: tuple[str, ...]
    kind: Kind = "elementwise"
    ratio: Callable[..., dict[str, Any]] | None = None
    direction: Callable[..., tuple[Any, ...]] | None = None
    measured: tuple[str, ...] = ()
    measure: Callable[..., tuple[Any, ...]] | None = None
    norms: tuple[str, ...] = ()
    sums: tuple[str, ...] = ()
    exact: tuple[str, ...] = ()
    masked: bool = False
    shapes: Callable[..., dict[str, Shape]] | None = None
    outputs: Side = "first"
    joint: Callable[..., Sequence[Any]] | None = None

    @cached_property
    def function_names(self) -> tuple[str, ...]:
        """Names of the coefficients that `function` takes."""
        return _names(self.function, 2 + len(self.slots))

    @cached_property
    def direction_names(self) -> tuple[str, ...]:
        """Names of the coefficients that `direction` takes."""
        return _names(self.direction, 2 + len(self.slots))

    @cached_property
    def joint_names(self) -> tuple[str, ...]:
        """Names of the coefficients that `joint` takes."""
        return _names(self.joint, 1)

    @cached_property
    def measure_names(self) -> tuple[str, ...]:
        """Names of the coefficients that `measure` takes."""
        return _names(self.measure, 2 + len(self.slots))

    @cached_property
    def ratio_names(self) -> tuple[str, ...]:
        """Names of the coefficients that `ratio` takes."""
        return _names(self.ratio, 1 + len(self.norms) + len(self.sums))

    @cached_property
    def coefficients(self) -> tuple[str, ...]:
        """Names of all coefficients in the step of one entry."""
        names = (*self.function_names, *self.direction_names, *self.joint_names)
        return tuple(dict.fromkeys(names))

    @cached_property
    def given(self) -> tuple[str, ...]:
        """Names of the coefficients that the optimizer class computes once per step."""
        names = dict.fromkeys((*self.coefficients, *self.ratio_names, *self.measure_names))
        return tuple(name for name in names if name not in self.measured)

    @cached_property
    def given_names(self) -> frozenset[str]:
        """The names in `given`, as a set."""
        return frozenset(self.given)

    @property
    def totals(self) -> tuple[str, ...]:
        """Names of the totals that are taken over all tensors together."""
        return () if self.ratio else (*self.norms, *self.sums)

    @property
    def name(self) -> str:
        """Name of the function."""
        return self.function.__name__

    @cached_property
    def apart(self) -> frozenset[str]:
        """Names of the slots that are not shaped like the parameter."""
        return frozenset(self.shapes(1, 1)) if self.shapes else frozenset()

    def matrix(self, shape: Shape) -> Shape:
        """Return the shape of the matrix that a ``matrix`` rule makes of a parameter.

        For a rule that takes stacks of matrices, the axes that count matrices come first.
        """
        if callable(self.outputs):
            return self.outputs(shape)
        if self.outputs == "stack":
            return shape
        if self.outputs == "first":
            return (shape[0] if shape else 1), prod(shape[1:])
        return prod(shape[:-1]), (shape[-1] if shape else 1)

    def slot_shapes(self, shape: Shape) -> dict[str, Shape]:
        """Return the shape of each slot, given the shape of the parameter."""
        own = self.shapes(*self.matrix(shape)) if self.shapes else {}
        return {name: own.get(name, shape) for name in self.slots}

    def stepped(
        self, operands: Sequence[Any], scalars: Mapping[str, Any], shape: Shape, xp: Any
    ) -> list[Any]:
        """Call `function` on parameter, gradient and slots, reshaped to matrices for a matrix rule.

        The arrays may have additional leading axes, over several parameters with the same `shape`.
        """
        named = [scalars[name] for name in self.function_names]
        if self.kind != "matrix":
            return list(self.function(*operands, *named, xp))
        lead = tuple(operands[0].shape)[: len(operands[0].shape) - len(shape)]
        own, matrix = self.slot_shapes(shape), self.matrix(shape)
        views = [matrix, matrix, *(own[n] if n in self.apart else matrix for n in self.slots)]
        seen = [_shaped(x, (*lead, *v), xp) for x, v in zip(operands, views, strict=True)]
        given = {id(view): x for view, x in zip(seen, operands, strict=True)}
        found = self.function(*seen, *named, xp)
        wanted = [shape, *own.values()]
        return [
            given[id(x)] if id(x) in given else _shaped(x, (*lead, *s), xp)
            for x, s in zip(found, wanted, strict=True)
        ]

    def turned(self, operands: Sequence[Any], scalars: Mapping[str, Any], xp: Any) -> list[Any]:
        """Return parameter, gradient and slots, the latter two replaced by `direction`."""
        if self.direction is None:
            return list(operands)
        named = (scalars[name] for name in self.direction_names)
        return [operands[0], *self.direction(*operands, *named, xp)]

    def joined(
        self,
        directions: Sequence[Any],
        shapes: Sequence[Shape],
        scalars: Mapping[str, Any],
        xp: Any,
    ) -> list[Any]:
        """Return directions, replaced by `joint`, of parameters with the given shapes.

        They may have additional leading axes, as for `stepped`.
        """
        if self.joint is None:
            return list(directions)
        matrices = [
            _shaped(x, (*tuple(x.shape)[: len(x.shape) - len(shape)], *self.matrix(shape)), xp)
            for x, shape in zip(directions, shapes, strict=True)
        ]
        found = self.joint(matrices, *(scalars[name] for name in self.joint_names), xp)
        return [_shaped(y, x.shape, xp) for x, y in zip(directions, found, strict=True)]

    def quantities(
        self, operands: Sequence[Any], scalars: Mapping[str, Any], xp: Any
    ) -> Sequence[Any]:
        """Return the arrays to be totalled, from parameter, direction and slots."""
        if self.measure is None:
            return operands[:2]
        return self.measure(*operands, *(scalars[name] for name in self.measure_names), xp)

    def __call__(self, *args: Any) -> tuple[Any, ...]:
        """Apply the rule to parameter, gradient, slots, `coefficients` and `xp`."""
        count = 2 + len(self.slots)
        scalars, xp = dict(zip(self.coefficients, args[count:-1], strict=True)), args[-1]
        operands = self.turned(args[:count], scalars, xp)
        if self.joint is not None:
            operands[1:2] = self.joined(operands[1:2], [tuple(operands[1].shape)], scalars, xp)
        return self.function(*operands, *(scalars[name] for name in self.function_names), xp)

    def __repr__(self) -> str:
        """Return a description with name, slots and coefficients."""
        slots, coefficients = ", ".join(self.slots), ", ".join(self.coefficients)
        return f"<rule {self.name}: slots ({slots}), coefficients ({coefficients})>"


def parameters(function: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of a function's parameters."""
    if isinstance(function, FunctionType) and not hasattr(function, "__wrapped__"):
        code = function.__code__
        if not code.co_kwonlyargcount and not code.co_flags & _MORE:
            # inspect.signature on all rules of the library would take a tenth of its import time.
            return code.co_varnames[: code.co_argcount]
    return tuple(inspect.signature(function).parameters)


def _shaped(x: Any, shape: Shape, xp: Any) -> Any:
    return x if tuple(x.shape) == tuple(shape) else xp.reshape(x, shape)


def _names(function: Callable[..., Any] | None, start: int) -> tuple[str, ...]:
    return parameters(function)[start:-1] if function else ()
