"""What an optimizer remembers between steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ._arrays import COMPLEX, COMPUTE, HALF, backend_of
from ._checks import Leaf
from ._rule import Rule
from ._trees import Structure
from ._typing import Array, Tree


@dataclass
class State:
    """The state of an optimizer over one tree of parameters.

    Attributes
    ----------
    leaves : tuple of Leaf or None
        The parameters it was made for.
    names : tuple of str
        Names of the slots, in the order of `get_weights`.
    slots : list of dict
        For each parameter its slots by name.
    scalars : dict of str to float
        State that is one number.
    iterations, skipped : int
        Steps taken, and steps left out because of non-finite gradients.
    """

    leaves: tuple[Leaf | None, ...]
    names: tuple[str, ...]
    slots: list[dict[str, Array]]
    scalars: dict[str, Any] = field(default_factory=dict)
    iterations: Any = 0
    skipped: Any = 0

    @classmethod
    def initial(
        cls,
        rule: Rule,
        extras: Sequence[str],
        params: Sequence[Array | None],
        leaves: tuple[Leaf | None, ...],
    ) -> State:
        """Make the state before the first step: zeros, and an average that is the parameter."""
        slots: list[dict[str, Array]] = []
        for p, leaf in zip(params, leaves, strict=True):
            wanted = slot_dtypes(leaf.dtype, rule, extras) if leaf else {}
            slots.append({name: _start(name, dtype, p) for name, dtype in wanted.items()})
        names = (*rule.slots, *(n for n in extras if any(n in held for held in slots)))
        return cls(leaves, names, slots)

    @property
    def paths(self) -> list[str]:
        """The path of each parameter, empty for None."""
        return [leaf.path if leaf else "" for leaf in self.leaves]

    def entries(self) -> Iterator[tuple[str, Leaf, dict[str, Array]]]:
        """Give slot by slot its name, each parameter that has it, and that parameter's slots."""
        for name in self.names:
            for leaf, slots in zip(self.leaves, self.slots, strict=True):
                if leaf is not None and name in slots:
                    yield name, leaf, slots

    def weights(self) -> list[np.ndarray]:
        """Give iterations, scalars and slots as new host arrays."""
        scalars = [np.asarray(value, np.float64) for value in self.scalars.values()]
        arrays = [backend_of(s[name]).to_host(s[name]) for name, _, s in self.entries()]
        return [np.asarray(self.iterations, np.int64), *scalars, *arrays]

    def put(self, values: Sequence[np.ndarray]) -> None:
        """Replace the slots, in the order of `entries`, by checked host arrays."""
        for (name, _, slots), value in zip(self.entries(), values, strict=True):
            backend, old = backend_of(slots[name]), slots[name]
            wanted = backend.dtype(old)
            slots[name] = backend.from_host(np.asarray(value).astype(wanted), old)

    def copy(self) -> State:
        """Give a state whose entries can be replaced without changing this one's."""
        return replace(self, slots=[dict(s) for s in self.slots], scalars=dict(self.scalars))

    def to_tree(self, structure: Structure, hyper: dict[str, Any]) -> dict[str, Any]:
        """Give the state as a nested dict, with slots shaped like the parameters."""
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


def slot_dtypes(dtype: str, rule: Rule, extras: Sequence[str]) -> dict[str, str]:
    """Give the data type of each slot of a parameter of some data type."""
    kind = dtype if dtype in COMPLEX else COMPUTE[dtype]
    used = (name for name in extras if name != "master" or dtype in HALF)
    return dict.fromkeys((*rule.slots, *used), kind)


def _start(name: str, dtype: str, p: Array) -> Array:
    backend = backend_of(p)
    if name != "average":
        return backend.zeros(tuple(p.shape), dtype, p)
    with backend.guard():
        return backend.copy(backend.cast(p, dtype))


def from_tree(
    tree: dict[str, Any], leaves: tuple[Leaf | None, ...], flat: dict[str, list[Tree]]
) -> State:
    """Undo `State.to_tree`, given the leaves of each slot."""
    slots = [
        {name: arrays[i] for name, arrays in flat.items() if arrays[i] is not None}
        for i in range(len(leaves))
    ]
    return State(
        leaves, tuple(flat), slots, dict(tree["scalars"]), tree["iterations"], tree["skipped"]
    )
