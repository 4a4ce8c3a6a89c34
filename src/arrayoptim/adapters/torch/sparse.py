"""A parameter group in which only the entries of sparse gradients are stepped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from functools import partial
from typing import Any

import torch

from ..._typing import Scalar
from ...arrays.trees import Structure
from ...engines import Once
from ...step import checks
from ...step.session import session_of
from ...step.state import Clock
from .entries import Entry
from .param_group import GroupStep, Part
from .shards import Tensor


class SparsePart(Part):
    """The optimizer of one parameter group, for gradients in torch's coordinate layout.

    A step takes out the entries that the gradients have, with their state, steps them by the rule
    as arrays of their own, and puts them back.
    """

    _usual = torch.sparse_coo
    _places: list[tuple[Tensor, ...] | None]

    def _require_layout(self, g: Tensor, p: Tensor) -> None:
        if g.layout is not torch.sparse_coo:
            raise RuntimeError(
                f"{self.spelling.name} does not support dense gradients, please consider Adam; "
                f"found one of parameter {self.paths()[id(p)]!r}"
            )

    def _given(self, found: list[Tensor | None]) -> list[Tensor | None]:
        rows = [None if g is None else g.coalesce() for g in found]
        self._places = [None if g is None else tuple(g.indices()) for g in rows]
        return [None if g is None else g.values() for g in rows]

    def prepare(self, grads: Sequence[Tensor | None]) -> None:
        """Do nothing: the entries differ from step to step."""

    def squares(self, grads: Sequence[Tensor | None]) -> Mapping[int, float]:
        """Return an empty dict, as no engine has checked the gradients."""
        return {}

    def act(
        self,
        grads: Sequence[Tensor | None],
        norm: Scalar | None,
        state: MutableMapping[Tensor, Entry],
    ) -> GroupStep:
        """Return the step of the group; see `Part.act`."""
        return _SparseStep(partial(self._step, grads, norm, state))

    def _step(
        self,
        grads: Sequence[Tensor | None],
        norm: Scalar | None,
        state: MutableMapping[Tensor, Entry],
    ) -> bool:
        """Step the entries of the gradients; return whether the state has other tensors."""
        kept, counts = self._state(), self._counts
        assert counts is not None
        core = self.spelling.core(**self._values)
        session = session_of(core)
        there = [i for i, places in enumerate(self._places) if places is not None]
        rows = [(self.leaves[i], kept.slots[i], self._places[i]) for i in there]
        parts: list[Any] = [p[places] for p, _, places in rows]
        held = [{name: x[places] for name, x in slots.items()} for _, slots, places in rows]
        structure = Structure(tuple(self.structure.paths[i] for i in there), list)
        session.replace(session.fresh(parts, checks.describe(parts, structure), held))
        assert session.state is not None
        clocks = kept.clocks or [Clock(kept.iterations, kept.scalars)]
        places = kept.clock_of or [0] * len(self.leaves)
        session.state.clocks, session.state.clock_of = list(clocks), [places[i] for i in there]
        session.state.iterations = kept.iterations
        new = session.take([grads[i] for i in there], parts, structure, norm=norm)
        for (p, slots, entries), part, own in zip(rows, new, session.state.slots, strict=True):
            p[entries] = part
            for name, x in slots.items():
                x[entries] = own[name]
        after = [Clock(clock.iterations + 1, clock.scalars) for clock in clocks]
        if kept.clocks:
            kept.clocks, kept.clock_of = kept.ticked(grads, after)
        kept.iterations += 1
        if counts.write():
            for i, p in enumerate(self.params):
                state[p].update(counts.of(i))
            return True
        return False


class _SparseStep:
    """A step that is taken as a whole, and cannot be resumed after an interrupt."""

    def __init__(self, step: Callable[[], bool]) -> None:
        self.changed, self._step, self._act = False, step, Once(self._take)

    def _take(self) -> None:
        self.changed = self._step()

    def __call__(self) -> None:
        """Take the step."""
        self._act()
