"""The state of one parameter group: torch's entries, whose tensors are the optimizer's slots."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence

import torch

from ...arrays.identity import same_objects
from ...arrays.trees import Structure
from ...numerics.slots import Layout
from ...step import checks
from ...step.session import session_of
from ...step.sharding import takes_wholes
from .capturing import Capturing
from .counts import Counts, put
from .device_counts import DeviceCounts
from .group_settings import GroupSettings
from .meshes import MeshSpread
from .shards import Tensor, all_plain, in_parts, is_shared_out, local, shared_out
from .state_entries import Entry, fitted


class GroupState:
    """The part of torch's state that a parameter group's optimizer has adopted.

    Torch's state is authoritative. The optimizer's slots are the very tensors in it; where they
    have been replaced since the last step, as by loading, the optimizer adopts the new ones.

    Parameters
    ----------
    settings : GroupSettings
        The optimizer.
    capturing : Capturing
        Who counts its steps, the host or kernels.

    Attributes
    ----------
    params, leaves : list of torch.Tensor
        The parameters, and the local part of each.
    structure : Structure
        Their paths.
    plain : bool
        Whether none of them has a type that may be sharded.
    """

    def __init__(self, settings: GroupSettings, capturing: Capturing) -> None:
        self.settings, self.session = settings, session_of(settings.core)
        self._capturing = capturing
        self.params: list[Tensor] = []
        self.leaves: list[Tensor] = []
        self.structure = Structure((), list)
        self.plain = False
        self._shapes: dict[int, dict[str, tuple[int, ...]]] = {}
        self._counts: Counts | DeviceCounts | None = None

    @property
    def counts(self) -> Counts | DeviceCounts:
        """The counts of steps."""
        assert self._counts is not None
        return self._counts

    @property
    def slots(self) -> Sequence[Mapping[str, Tensor]]:
        """The slots of each parameter."""
        state = self.session.state
        assert state is not None
        return state.slots

    def has(self, params: Sequence[Tensor]) -> bool:
        """Whether `params` are the parameters."""
        return same_objects(params, self.params)

    def holds(self, params: Sequence[Tensor], leaves: Sequence[Tensor], same: bool) -> bool:
        """Whether the state belongs to these parameters; `same`: known to be unchanged."""
        counts = self._counts
        if counts is None or counts.state is not self.session.state:
            return False
        if not (same or self.has(params)):
            return False
        return leaves is params or same_objects(leaves, self.leaves)

    def take_up(
        self,
        params: list[Tensor],
        leaves: list[Tensor],
        state: MutableMapping[Tensor, Entry],
    ) -> None:
        """Adopt the entries of parameters, and create the missing ones.

        Raises
        ------
        TypeError, ValueError
            If they do not fit. Nothing has been changed.
        """
        self._capturing.look(leaves)
        structure, described, layouts, held, numbers = fitted(self.settings, params, leaves, state)
        session = self.session
        checks.no_overlap(leaves, structure, _arrays_of(state))
        session.reset()
        self._shapes = {
            id(p): layout.shapes(leaf.shape, leaf.dtype)
            for p, leaf, layout in zip(params, described, layouts, strict=True)
            if leaf is not None and layout is not None
        }
        session.spread = self._spread(params, layouts)
        new = session.fresh(leaves, described, held)
        session.replace(new)
        self.params, self.leaves, self.structure = params, leaves, structure
        self.plain = all_plain(params)
        self._counts = self._capturing.begun(new, numbers, leaves, structure)
        if self._counts is None:
            skips = self.settings.core.nonfinite == "skip"
            self._counts = Counts(new, numbers, self.settings.words, skips)
        for p, slots in zip(params, new.slots, strict=True):
            entry = state.setdefault(p, {})
            for name, x in slots.items():
                word = self.settings.word(name)
                if word not in entry or local(entry[word]) is not x:
                    entry[word] = shared_out(x, p, self._shapes[id(p)][name])
        put(state, params, self._counts)

    def follow(
        self, held: Sequence[Mapping[str, Tensor]], state: MutableMapping[Tensor, Entry]
    ) -> bool:
        """Update torch's state after a step, given the slots before; return whether it changed."""
        slots, counts = self.slots, self.counts
        changed = slots is not held
        for p, old, new in zip(self.params, held, slots, strict=True) if changed else ():
            if new is not old:
                shapes = self._shapes[id(p)]
                state[p].update(
                    {self.settings.word(k): shared_out(x, p, shapes[k]) for k, x in new.items()}
                )
        if counts.write():
            put(state, self.params, counts)
            changed = True
        return changed

    def current(self, state: Mapping[Tensor, Entry]) -> bool:
        """Whether `state` still holds the tensors of the last step."""
        for i, (p, slots) in enumerate(zip(self.params, self.slots, strict=True)):
            entry = state.get(p, {})
            for name, x in slots.items():
                held = entry.get(self.settings.word(name))
                if held is not x and (not is_shared_out(held) or local(held) is not x):
                    return False
            if any(entry.get(name) is not x for name, x in self.counts.of(i).items()):
                return False
        return True

    def _spread(
        self, params: Sequence[Tensor], layouts: Sequence[Layout | None]
    ) -> MeshSpread | None:
        """Return how the parameters are spread over processes; None if all of them are local."""
        spread = [i for i, p in enumerate(params) if in_parts(p)]
        h = self.session.settings.whole
        wholes = [i for i in spread if (layout := layouts[i]) and takes_wholes(layout, h)]
        shapes = [self._shapes[id(p)] for p in params]
        return MeshSpread(params, shapes, wholes) if spread else None


def _arrays_of(state: Mapping[Tensor, Entry]) -> list[Entry]:
    """Return the state's own arrays, of all groups, without counts, which may be shared."""
    return [
        {word: local(x) for word, x in entry.items() if isinstance(x, torch.Tensor) and x.ndim}
        for entry in state.values()
    ]
