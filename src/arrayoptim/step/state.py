"""The state of an optimizer: slots, scalars and step counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .._typing import Array, Tree
from ..arrays.libraries import backend_of
from ..arrays.trees import Structure
from ..config.per_model import Row, repeated, row
from ..numerics.slots import Layout, Start
from .checks import Leaf
from .per_model import piece


@dataclass
class Clock:
    """A step count and scalar state, shared by some of the parameters."""

    iterations: Any
    scalars: dict[str, Any]


def one_count(counts: Row) -> Any:
    """Return step counts as one number if they are all equal."""
    first = int(counts[0])
    return first if bool((counts == first).all()) else counts


@dataclass
class State:
    """The state of an optimizer over one tree of parameters.

    Attributes
    ----------
    leaves : tuple of Leaf or None
        The parameters that it was made for.
    names : tuple of str
        Names of the slots, in the order of `get_weights`.
    slots : list of dict
        The slots of each parameter, by name.
    scalars : dict of str to float, or Resident
        Scalar state, by name; some of it may be on a device.
    iterations, skipped : int
        Number of steps taken, and of steps skipped because of non-finite gradients.
    interrupted : bool
        Whether a step was interrupted half-way, so that slots may belong to different steps.
    clocks : list of Clock
        Clocks, if parameters have different step counts; else empty.
    clock_of : list of int
        The index in `clocks` of each parameter's clock.
    models : Clock or None
        The step counts of the models, one number if they are equal, and each model's scalar
        state, as rows; None without `models`.
    many : int
        Number of models.
    """

    leaves: tuple[Leaf | None, ...]
    names: tuple[str, ...]
    slots: list[dict[str, Array]]
    scalars: Any = field(default_factory=dict)
    iterations: Any = 0
    skipped: Any = 0
    interrupted: bool = False
    clocks: list[Clock] = field(default_factory=list)
    clock_of: list[int] = field(default_factory=list)
    models: Clock | None = None
    many: int = 1

    @classmethod
    def initial(
        cls,
        layouts: Sequence[Layout | None],
        params: Sequence[Array | None],
        leaves: tuple[Leaf | None, ...],
        starts: Sequence[Mapping[str, Start]],
        held: Sequence[dict[str, Array]] = (),
    ) -> State:
        """Return the initial state, using the slots in `held`; see `Layout.initial`.

        `held` has one entry per parameter, which is empty if its slots are to be made.
        """
        rows = zip(params, leaves, layouts, starts, held or [{}] * len(leaves), strict=True)
        slots: list[dict[str, Array]] = [
            old or (_initial(layout, p, leaf, start) if leaf and layout else {})
            for p, leaf, layout, start, old in rows
        ]
        used = {name for held in slots for name in held}
        distinct = dict.fromkeys(layout for layout in layouts if layout)
        used |= {name for layout in distinct for name in layout.rule.slots}
        # Slots of rules come first and those of stages last, also with several layouts.
        names = [n for layout in distinct for n in layout.names() if n not in layout.extras]
        names += [n for layout in distinct for n in layout.extras]
        return cls(leaves, tuple(n for n in dict.fromkeys(names) if n in used), slots)

    @property
    def mark(self) -> tuple[Any, ...]:
        """A value that differs after each step, whether taken, skipped or interrupted."""
        return self.iterations, self.skipped, self.interrupted

    def ticked(
        self, gradients: Sequence[Array | None], after: Sequence[Clock]
    ) -> tuple[list[Clock], list[int]]:
        """Return the clocks after a step of the parameters with a gradient, and the index of each.

        Parameters
        ----------
        gradients : sequence of array or None
            The gradients.
        after : sequence of Clock
            Each clock as it will be once its parameters have stepped.
        """
        if all(g is not None for g in gradients):
            return list(after), self.clock_of
        clocks: list[Clock] = []
        known: dict[Any, int] = {}
        places = []
        for g, place in zip(gradients, self.clock_of, strict=True):
            clock = self.clocks[place] if g is None else after[place]
            key = clock.iterations, *clock.scalars.values()
            if key not in known:
                known[key] = len(clocks)
                clocks.append(clock)
            places.append(known[key])
        return clocks, places

    def common(self) -> Mapping[str, Any]:
        """Return the scalar state; with several clocks, that with the highest step count."""
        return max(self.clocks, key=_count).scalars if self.clocks else self.scalars

    def share(self, numbers: Mapping[str, Any]) -> None:
        """Set scalar state that all parameters share, whatever their step counts."""
        self.scalars = self.scalars | numbers
        for clock in self.clocks:
            clock.scalars = {**clock.scalars, **numbers}

    @property
    def moment(self) -> Clock:
        """The step count and scalar state before a step; rows if they differ between models."""
        if self.models is None:
            return Clock(self.iterations, self.scalars)
        return Clock(self.models.iterations, {**self.scalars, **self.models.scalars})

    def count(self, iterations: int) -> None:
        """Set the number of steps taken."""
        self.iterations = iterations
        if self.models is not None:
            self.models = replace(self.models, iterations=iterations)

    @property
    def counts(self) -> Row:
        """The step count of each model."""
        assert self.models is not None
        return repeated(self.models.iterations, self.many)

    @property
    def numbers(self) -> dict[str, float]:
        """All scalar state; per-model scalars are listed by model index."""
        found = dict(self.scalars)
        for name, values in self._of_models().items():
            found |= {piece(name, m): value for m, value in enumerate(values.tolist())}
        return found

    @numbers.setter
    def numbers(self, values: Mapping[str, float]) -> None:
        self.scalars = {name: values[name] for name in self.scalars}
        if self.models is not None:
            rows = {
                name: row([values[piece(name, m)] for m in range(len(known))])
                for name, known in self._of_models().items()
            }
            self.models = Clock(one_count(rows.pop("iterations")), rows)

    def _of_models(self) -> dict[str, Row]:
        if self.models is None:
            return {}
        return {"iterations": self.counts, **self.models.scalars}

    def step_models(self, scalars: Mapping[str, Any], left_out: Any = None) -> None:
        """Count a step of each model that was not skipped, and adopt its new scalars."""
        assert self.models is not None
        old, new = self.models, {name: scalars[name] for name in self.models.scalars}
        counts = old.iterations + 1
        if left_out is not None:
            self.skipped += int(left_out.sum())
            counts = one_count(row(np.where(left_out, old.iterations, counts)))
            new = {k: np.where(left_out, old.scalars[k], v) for k, v in new.items()}
        self.models = Clock(counts, {k: repeated(v, self.many) for k, v in new.items()})

    def interrupt(self) -> None:
        """Mark the state as interrupted half-way through a step."""
        self.interrupted = True

    def complete(self) -> None:
        """Note that a step, which `interrupt` began, is complete."""
        self.interrupted = False

    @property
    def paths(self) -> list[str]:
        """The path of each parameter; empty for None."""
        return [leaf.path if leaf else "" for leaf in self.leaves]

    def entries(self) -> Iterator[tuple[str, Leaf, dict[str, Array]]]:
        """Yield slot by slot its name, each parameter that has it, and that parameter's slots."""
        for name in self.names:
            for leaf, slots in zip(self.leaves, self.slots, strict=True):
                if leaf is not None and name in slots:
                    yield name, leaf, slots

    def weights(self) -> list[np.ndarray]:
        """Return iterations, scalars and slots as new host arrays."""
        scalars = [np.asarray(value, np.float64) for value in self.numbers.values()]
        arrays = [backend_of(s[name]).to_host(s[name]) for name, _, s in self.entries()]
        return [np.asarray(self.iterations, np.int64), *scalars, *arrays]

    def put(self, values: Sequence[np.ndarray]) -> None:
        """Replace the slots, in the order of `entries`, with checked host arrays."""
        for (name, _, slots), value in zip(self.entries(), values, strict=True):
            slots[name] = backend_of(slots[name]).from_host(np.asarray(value), slots[name])

    def copy(self) -> State:
        """Return a shallow copy, whose entries can be replaced independently."""
        return replace(
            self,
            slots=[dict(s) for s in self.slots],
            scalars=dict(self.scalars),
            clocks=[replace(clock, scalars=dict(clock.scalars)) for clock in self.clocks],
        )

    def to_tree(self, structure: Structure, hyper: dict[str, Any]) -> dict[str, Any]:
        """Return the state as a nested dict, with each slot as a tree like the parameters."""
        return {
            "iterations": self.iterations,
            "skipped": self.skipped,
            "hyper": hyper,
            "scalars": dict(self.scalars),
            "slots": {
                name: structure.build([slots.get(name) for slots in self.slots])
                for name in self.names
            },
        }


def _count(clock: Clock) -> Any:
    return clock.iterations


def _initial(layout: Layout, p: Array, leaf: Leaf, start: Mapping[str, Start]) -> dict[str, Array]:
    return layout.initial(p, leaf.shape, leaf.dtype, start, leaf.part)


def from_tree(
    tree: dict[str, Any], leaves: tuple[Leaf | None, ...], flat: dict[str, list[Tree]]
) -> State:
    """Return the state from which `State.to_tree` made a dict, given the leaves of each slot."""
    slots = [
        {name: arrays[i] for name, arrays in flat.items() if arrays[i] is not None}
        for i in range(len(leaves))
    ]
    return State(
        leaves, tuple(flat), slots, dict(tree["scalars"]), tree["iterations"], tree["skipped"]
    )
