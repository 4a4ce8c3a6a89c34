"""Per-step scalars that the device derives from totals over tensors and from scalar state.

The host need not know a rule's totals: one block sums those of all tensors, evaluates the formula's
coefficients in double precision and in the order that all engines use, and writes them where the
sweep reads them. The scalar state stays on the device too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..._typing import Array
from ...arrays.identity import same_objects
from ...numerics.formulas import Number, depends
from ...rules.rule import Rule
from ..resident import Kept
from .arrays import Library
from .device import Device, Launch, Launches, launches
from .formulas import Written, derived_program, written
from .mirror import Mirror
from .tables import Numbers

__all__ = ["Derived", "Target"]

Target = tuple[Numbers, Number]
"""Addresses in a batch's scalar table, and the symbol whose value belongs there."""


class _Sources:
    """The addresses of each tensor's totals, in the order of summation."""

    def __init__(self, device: Device, rule: Rule, members: Sequence[int], sums: Numbers) -> None:
        # One run per total and group, norms first; tensors in order within each.
        groups = sorted(set(members))
        order = [np.flatnonzero(np.asarray(members) == group) for group in groups]
        rows = [sums[places, k] for k in range(len(rule.totals)) for places in order]
        self.places = {
            ("total", f"{group} {name}"): f"totals[{k * len(groups) + i}]"
            for k, name in enumerate(rule.totals)
            for i, group in enumerate(groups)
        }
        self.runs, self.norms = len(rows), len(rule.norms) * len(groups)
        first = np.cumsum([0, *map(len, rows)])
        tables = np.concatenate(rows), first.astype(np.int64), np.zeros(max(sums.size, 1))
        self._tables = [device.table(each) for each in tables]
        self.arguments = *(each.address for each in self._tables), int(sums.size)


class _Phase:
    """A launch before or after each tensor's totals are taken, and the tables it reads."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._given, self._targets = Mirror(device), Mirror(device)
        self._kernels: dict[Any, Launch] = {}
        self.key: Any = None

    def kernel(self, text: Written, later: bool) -> Launch:
        """Return the kernel for a text."""
        self.key = text.key
        if text.key not in self._kernels:
            if later:
                raise RuntimeError(
                    "no kernel is ready for what the formula computes now: let capture see the "
                    "hyperparameters that the step will have"
                )
            self._kernels[text.key] = self._device.kernel(derived_program(text))
        return self._kernels[text.key]

    def sent(self, text: Written, later: bool = False, room: int = 0) -> tuple[int, int]:
        """Return the device addresses of a text's given floats and of its targets."""
        given, told = text.tables
        return (
            self._given.address(given, later=later),
            self._targets.address(told, later=later, room=room),
        )

    def flush(self) -> None:
        """Copy what was deferred during the capture of a graph."""
        self._given.flush()
        self._targets.flush()


class Derived:
    """The scalars that one device derives from totals and scalar state.

    Parameters
    ----------
    device : Device
        The device.
    rule : Rule
        The rule with these totals.
    sums : numpy.ndarray of int
        The addresses of each tensor's totals.
    ordinals : sequence of int
        Indices of the tensors in the tree.
    """

    def __init__(self, device: Device, rule: Rule, sums: Numbers, ordinals: Sequence[int]) -> None:
        self._device, self._rule, self._sums, self._ordinals = device, rule, sums, ordinals
        self._before, self._after = _Phase(device), _Phase(device)
        self._names: tuple[str, ...] = ()
        self._state = device.table(np.zeros(1))
        self._viewed: tuple[Any, Any] = None, None
        self._sources: _Sources | None = None
        self._members: Sequence[int] | None = None
        self._known: tuple[tuple[Any, ...], Any] = (), None

    def prepare(
        self, kept: Kept, held: bool, targets: Sequence[Target], later: bool = False, room: int = 0
    ) -> tuple[list[Launches], list[Launches]]:
        """Prepare the launches before and after each tensor's totals are taken.

        Parameters
        ----------
        kept : Kept
            The scalar state.
        held : bool
            Whether the device already holds the state before the step.
        targets : sequence of Target
            The scalars to write, and at which addresses.
        later : bool
            Whether a graph is being captured; `renew` then copies what the launches read.
        room : int
            The number of targets to allocate for: later steps may have more than this one.

        Raises
        ------
        RuntimeError
            If the kernel cannot be compiled on this machine, or not during a capture.
        """
        sources = self._settled(kept, held or later)
        calls: list[list[Launches]] = []
        texts = self._texts(kept, targets)
        for phase, text in zip((self._before, self._after), texts, strict=True):
            if not text.results and not text.state:
                calls.append([])
                continue
            launch = phase.kernel(text, later)
            given, told = phase.sent(text, later, 1 + 2 * room)
            arguments = (*sources.arguments, given, self._state.address, told)
            calls.append([launches(launch, 1, arguments)])
        return calls[0], calls[1]

    def renew(self, kept: Kept, held: bool, targets: Sequence[Target]) -> None:
        """Write what the launches in a CUDA graph read at the next step.

        Raises
        ------
        ValueError
            If the formula computes its coefficients otherwise than at the capture.
        """
        texts = self._texts(kept, targets)
        for phase, text in zip((self._before, self._after), texts, strict=True):
            if phase.key is not None and phase.key != text.key:
                raise ValueError(
                    "the formula computes its coefficients in another way than when the CUDA "
                    "graph was captured: capture it again"
                )
        self._settled(kept, held)
        for phase, text in zip((self._before, self._after), texts, strict=True):
            phase.flush()
            if phase.key is not None:
                phase.sent(text)

    def _settled(self, kept: Kept, held: bool) -> _Sources:
        """Return the addresses of totals; first copy the state to the device unless held there."""
        if self._sources is None or kept.members is not self._members:
            self._members = kept.members
            members = [kept.members[k] for k in self._ordinals]
            self._sources = _Sources(self._device, self._rule, members, self._sums)
        names = tuple(kept.after)
        if names != self._names:
            self._names, self._state = names, self._device.table(np.zeros(len(names)))
        if names and not held:
            self._device.write(self._state, np.array([float(kept.before[k]) for k in names]))
        return self._sources

    def _texts(self, kept: Kept, targets: Sequence[Target]) -> tuple[Written, Written]:
        """Return what to compute before the totals are known, and what after."""
        assert self._sources is not None
        key = self._sources, *(x for target in targets for x in target), *kept.after.values()
        if not same_objects(key, self._known[0]):
            self._known = key, self._written(kept, targets)
        found: tuple[Written, Written] = self._known[1]
        return found

    def _written(self, kept: Kept, targets: Sequence[Target]) -> tuple[Written, Written]:
        assert self._sources is not None
        late = [target for target in targets if depends(target[1], "total")]
        early = [target for target in targets if not depends(target[1], "total")]
        places = {("state", name): f"state[{k}]" for k, name in enumerate(self._names)}
        state = {
            k: value
            for k, (name, value) in enumerate(kept.after.items())
            if not (type(value) is Number and (value.op, value.name) == ("state", name))
        }
        runs = self._sources.runs, self._sources.norms
        return (
            written(early, {}, places, (0, 0)),
            written(late, state, places | self._sources.places, runs),
        )

    def read(self) -> dict[str, float]:
        """Return the state that the device holds; syncs."""
        return dict(zip(self._names, self._device.read(self._state).tolist(), strict=True))

    def views(self, library: Library) -> dict[str, Array]:
        """Return the state that the device holds as 0-d arrays of a library, without copies."""
        known, state = self._viewed
        if known is not self._state:
            state = library.viewed(self._state.memory)
            self._viewed = self._state, state
        return {name: state[k] for k, name in enumerate(self._names)}
